"""Runs instances of releases."""

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


class Running(Protocol):
    """A started instance."""

    @property
    def pid(self) -> int: ...

    async def wait(self) -> int:
        """The exit code (negative: the signal) once it has ended."""

    @property
    def failure(self) -> str:
        """Why it could not start, as it said itself (a StartupError's text); "" when it did not."""

    def terminate(self) -> None:
        """Ask it to drain and end."""

    def kill(self) -> None:
        """End it now."""


class Spawner(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def spawn(self, spec: Spec, sockets: Sequence[socket.socket]) -> Running:
        """`sockets` are listening and stay open in the caller: what arrives while an instance is away
        waits in the accept queue for the next one. Raises Unavailable when nothing can be started now."""


__all__ = ["Instance", "Running", "Spawner", "Spec"]
