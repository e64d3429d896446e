"""Where the instances of the platform are."""

from collections.abc import Callable
from typing import Protocol

import msgspec


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One running process (or external endpoint) of a release, as `status --json` shows it.

    `state`: starting, ready, degraded, draining, crashed or stopped; unknown when nobody watches it and it
    does not answer.
    """

    name: str
    """The module: a service, "gateway", …"""
    release: str
    instance: str
    """Unique among all instances that ever were: module, number, and generation."""
    pid: int
    state: str
    endpoint: str
    """`unix:PATH`, `http://HOST:PORT`, …"""
    restarts: int = 0
    since: float = 0.0
    """Unix seconds of the last change of state."""
    own: str = ""
    """Where this instance and no other answers, when `endpoint` is shared with others (gateways); else ""."""
    external: bool = False
    """Whether somebody else runs it: it is never shown a signed context."""
    model: str = ""
    """Of an external one: the model's name there; "" as it was asked for."""
    api_key_env: str = ""
    """Of an external one: names the variable of the gateway's environment that holds its key."""
    prices: dict[str, tuple[int, int, int]] = {}
    """What tokens of its release cost, by the model's alias ("": any): pico-units of the currency for one
    of a prompt, a cached prompt and an answer. Empty: what the alias costs."""
    reason: str = ""
    """Why it is in this state, when that is not obvious."""


class Topology(msgspec.Struct, frozen=True):
    """All instances. `version` grows with every change."""

    version: int = 0
    modules: tuple[Instance, ...] = ()


class Discovery(Protocol):
    """Follows the instances that the spawner (or an orchestrator) runs."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    @property
    def current(self) -> Topology:
        """The last known topology; kept when its source is away."""

    def subscribe(self, callback: Callable[[Topology], None]) -> None:
        """Called in the event loop with every new topology."""
