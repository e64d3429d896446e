"""Runs instances of releases.

    upgrade manager, command line ──Fleet──► supervisor ──Spawner──► processes

`Fleet` says what should run, in releases and numbers; `Spawner` is how one process is started. Labels of
releases are those of contracts/releases.py: a release is registered before it can be asked for here.
"""

import socket
from collections.abc import Sequence
from typing import Protocol

import msgspec

from moonpool.ports.discovery import Instance


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: module `name` at `release`, the `number`-th replica of it, as `instance`."""

    name: str
    release: str
    instance: str
    number: int = 0
    endpoint: str
    drain_timeout: float = 30.0
    replaced_drain_timeout: float = 0.0
    """How long it may drain when another one has taken over; 0: no longer than else."""


class Draining(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance says while it drains. `notes` grows while it is alive, if it `tells` at all."""

    notes: int = 0
    tells: bool = False
    under_way: int = 0
    """Requests that have not ended."""


class Running(Protocol):
    """A started instance."""

    @property
    def pid(self) -> int: ...

    async def wait(self) -> int:
        """The exit code (negative: the signal) once it has ended."""

    @property
    def failure(self) -> str:
        """Why it could not start, as it said itself (a StartupError's text); "" when it did not."""

    @property
    def draining(self) -> Draining:
        """The last that it said."""

    def retire(self) -> bool:
        """Tell it that another one has taken over: it takes nothing new, and ends with what it has. False
        when it does not know what that means: `terminate` it."""

    def terminate(self) -> None:
        """Ask it to drain and end soon; also after `retire`, to cut that short."""

    def kill(self) -> None:
        """End it now."""


class Spawner(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def spawn(self, spec: Spec, sockets: Sequence[socket.socket]) -> Running:
        """`sockets` are listening and stay open in the caller: what arrives while an instance is away
        waits in the accept queue for the next one. Raises Unavailable when nothing can be started now."""


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """What should run of one release, and what there is of it: draining and crashed ones included."""

    service: str
    """The module: a service, "gateway", …"""
    release: str
    replicas: int
    instances: tuple[Instance, ...] = ()

    @property
    def ready(self) -> int:
        """Instances that serve."""
        return sum(one.state in ("ready", "degraded") for one in self.instances)

    @property
    def gone(self) -> bool:
        """Whether nothing of it is wanted, and nothing is left."""
        return self.replicas == 0 and not any(one.state != "stopped" for one in self.instances)


class Fleet(Protocol):
    """What should run. Every change is kept before it is acted on, and survives whoever asked and whoever
    acts; asking again for what is there already changes nothing, so a caller that was killed just asks again.

    All return as soon as it is kept: what has become of it is seen in `deployments`. All raise
    `core.errors.Unavailable` when the one who acts is away (nothing, or all of it, was done: ask again).
    """

    async def deployments(self, service: str = "") -> tuple[Deployment, ...]:
        """Every release that should run or of which something is left, of `service` or of all modules."""

    async def ensure(self, service: str, release: str, replicas: int) -> None:
        """Run `replicas` (≥ 1) instances of the release beside all others; the surplus drains and ends,
        latest first. Raises NotFound for what is not registered, BadRequest for what cannot be."""

    async def drain(self, instance: str) -> None:
        """One instance gets no new work, finishes what it has (until its drain deadline) and ends; its
        release has one replica less. An instance that is draining already, or gone, stays so.

        Raises Conflict for the last one that its service should have.
        """

    async def remove(self, service: str, release: str) -> None:
        """All instances of the release drain and end; it stays registered.

        Raises Conflict when it is the only release that its service should have.
        """

    async def instances(self, service: str = "") -> tuple[Instance, ...]:
        """What there is, of `service` or of all modules."""


__all__ = ["Deployment", "Draining", "Fleet", "Instance", "Running", "Spawner", "Spec"]
