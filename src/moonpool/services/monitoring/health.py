"""The platform's health: what every instance says about itself, and what follows for the whole."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from moonpool.contracts.monitoring import ModuleHealth, ProbeClient
from moonpool.core.clock import Clock
from moonpool.core.errors import MoonpoolError
from moonpool.services.monitoring.schema import PlatformHealth

FRESH = 1.0
"""Seconds for which one look serves all who ask."""
_OF_USE = {"ready", "degraded"}


def overall(modules: Sequence[ModuleHealth]) -> Literal["ready", "degraded", "down"]:
    """Of nothing at all: down."""
    if not modules:
        return "down"
    names = {module.name for module in modules}
    if names != {module.name for module in modules if module.status in _OF_USE}:
        return "down"
    ready = {module.name for module in modules if module.status == "ready"}
    # What was replaced drains for as long as its requests last, and nothing is amiss.
    well = all(module.name in ready and module.status in ("ready", "draining") for module in modules)
    return "ready" if well else "degraded"


class HealthView:
    """Looks when asked, at most once a FRESH; keeps the last look for when nobody can be asked."""

    def __init__(self, probe: ProbeClient, clock: Clock) -> None:
        self._probe = probe
        self._clock = clock
        self._lock = asyncio.Lock()
        self._last: PlatformHealth | None = None
        self._looked = float("-inf")

    async def look(self) -> PlatformHealth:
        """Raises what the probe raised when there is no last look."""
        async with self._lock:
            if self._last is not None and self._clock.monotonic() - self._looked < FRESH:
                return self._last
            try:
                modules = await self._probe.probe()
            except MoonpoolError:
                if self._last is None:
                    raise
                modules = []
            if not modules and self._last is not None:
                last = self._last
                return PlatformHealth(status=last.status, at=last.at, stale=True, modules=last.modules)
            self._looked = self._clock.monotonic()
            self._last = PlatformHealth(status=overall(modules), at=self._clock.time(), modules=modules)
            return self._last

    async def modules(self) -> dict[str, str]:
        """The module of each instance, as far as it is known."""
        try:
            health = await self.look()
        except MoonpoolError:
            return {}
        return {module.instance: module.name for module in health.modules}
