"""Discovery through a JSON file that the supervisor writes and everyone else follows."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from moonpool.adapters.stat_poll import StatPoll, signature
from moonpool.ports.discovery import Topology

INTERVAL = 0.1
"""Seconds between two looks: the time for which an instance that is gone may still be called."""

_log = structlog.get_logger(__name__)


def write_topology(path: Path, topology: Topology) -> None:
    """Replace the file in one step: readers see the old one or the new one. Raises OSError.

    Not synced to the disk: after a crash of the machine no instance is where it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(msgspec.json.encode(topology))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class FileDiscovery:
    """Implements ports.discovery.Discovery. As long as there is no file, no instance is known."""

    def __init__(self, path: Path, *, interval: float = INTERVAL) -> None:
        self._path = path
        self._current = Topology()
        self._callbacks: list[Callable[[Topology], None]] = []
        self._poll = StatPoll(path, self._changed, interval=interval)

    async def start(self) -> None:
        known = signature(self._path)
        self._read()
        self._poll.start(known)

    async def stop(self) -> None:
        self._poll.stop()

    @property
    def current(self) -> Topology:
        return self._current

    def subscribe(self, callback: Callable[[Topology], None]) -> None:
        self._callbacks.append(callback)

    def _changed(self) -> None:
        if self._read():
            for callback in self._callbacks:
                # Each for itself: one that fails must not keep the topology from the others.
                asyncio.get_running_loop().call_soon(callback, self._current)

    def _read(self) -> bool:
        """Whether there is a new topology; the last known one stays when the file is away or broken."""
        try:
            topology = msgspec.json.decode(self._path.read_bytes(), type=Topology)
        except FileNotFoundError:
            return False
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            _log.warning("topology not readable", file=str(self._path), error=str(error))
            return False
        if topology == self._current:
            return False
        self._current = topology
        return True
