"""Looks after the peers of a process that has no supervisor: what `moonpool serve` tells of the modules that
run elsewhere is what they themselves say, and "unknown" as long as they say nothing."""

import asyncio
from collections.abc import Callable, Mapping

from moonpool.adapters.discovery.static import StaticDiscovery
from moonpool.contracts.monitoring import ModuleHealth, ProbeClient
from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.http.client import Client
from moonpool.wiring.clients import HttpProbeClient

EVERY = 1.0
"""Seconds between two looks."""
UNKNOWN = "unknown"
_TOLD = {"ready": "ready", "degraded": "degraded", "draining": "draining", "unready": "starting"}

Tell = Callable[[str, str, str], None]
"""With a module's name, its state and the reason for it."""


async def watch_peers(endpoints: Mapping[str, str], tell: Tell) -> None:
    """For ever: ask all peers how they are, and tell."""
    client = Client(clock=SYSTEM_CLOCK)
    discovery = StaticDiscovery({name: [endpoint] for name, endpoint in endpoints.items()})
    try:
        while True:
            await look(HttpProbeClient(discovery, client), tell)
            await asyncio.sleep(EVERY)
    finally:
        await client.aclose()


async def look(probe: ProbeClient, tell: Tell) -> None:
    for health in await probe.probe():
        tell(health.name, _TOLD.get(health.status, UNKNOWN), _reason(health))


def _reason(health: ModuleHealth) -> str:
    return "; ".join(f"{name}: {check}" for name, check in health.checks.items() if check != "ok")
