"""How monitoring looks at every other module."""

from typing import Protocol

import msgspec


class ModuleHealth(msgspec.Struct, frozen=True, kw_only=True):
    """`status`: ready, degraded, draining, starting or unreachable; `checks` is per dependency."""

    name: str
    instance: str
    release: str
    endpoint: str
    pid: int
    state: str
    status: str
    checks: dict[str, str] = {}
    latency_ms: float | None = None
    restarts: int = 0


class ProbeClient(Protocol):
    async def probe(self) -> list[ModuleHealth]:
        """Ask every instance's /readyz at once; never raises for one that does not answer."""

    async def metrics(self) -> dict[str, bytes]:
        """Every instance's Prometheus exposition by instance name; those that answer."""
