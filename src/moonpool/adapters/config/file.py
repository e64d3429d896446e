"""The platform's configuration from a YAML file and the environment, for processes without a config server.

The file is followed while the platform runs: a new valid document is published, a broken one is logged
with its place and changes nothing.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import structlog

from moonpool.adapters.config.load import load
from moonpool.adapters.stat_poll import StatPoll, signature
from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.core.errors import StartupError, Unavailable
from moonpool.ports.config import Kind, Standing

T = TypeVar("T")
INTERVAL = 0.5
"""Seconds between two looks at the file; a change is taken up at the second look that finds it."""

_log = structlog.get_logger(__name__)


class FileConfig:
    """Implements ports.config.ConfigSource[PlatformConfig]. Without a `path`: defaults and environment."""

    def __init__(self, path: Path | None, environ: Mapping[str, str], *, interval: float = INTERVAL) -> None:
        self._path = path
        self._environ = dict(environ)
        self._interval = interval
        self._current: PlatformConfig | None = None
        self._refused = ""
        self._callbacks: list[Callable[[str, Any, Any], None]] = []
        self._poll: StatPoll | None = None

    async def start(self) -> None:
        path = self._path
        if path is None:
            self._current = load(None, self._environ)
            return
        known = signature(path)
        self._current = load(path, self._environ)
        self._poll = StatPoll(path, self._changed, interval=self._interval, settle=True)
        self._poll.start(known)

    async def stop(self) -> None:
        """`current` stays what it was."""
        if self._poll is not None:
            self._poll.stop()
            self._poll = None

    @property
    def current(self) -> PlatformConfig:
        if self._current is None:
            raise Unavailable("The configuration is not loaded yet.", retry_after=1.0)
        return self._current

    @property
    def standing(self) -> Standing:
        origin = "file" if self._path else "defaults"
        return Standing(live=self._poll is not None, version=0, origin=origin, refused=self._refused)

    def find(self, kind: Kind[T], name: str) -> T | None:
        found = self._current if name == PLATFORM.name else None
        return found if isinstance(found, kind.shape) else None

    def subscribe(self, kind: Kind[T], callback: Callable[[str, T | None, T], None]) -> None:
        if kind.covers(PLATFORM.name):
            self._callbacks.append(callback)

    def _changed(self) -> None:
        try:
            document = load(self._path, self._environ)
        except StartupError as error:
            _log.error("configuration refused", where=error.where, reason=error.message, hint=error.hint)
            self._refused = str(error)
            return
        self._refused = ""
        if document == self._current:
            return
        old, self._current = self._current, document
        _log.info("configuration changed", file=str(self._path))
        for callback in self._callbacks:
            # Each for itself: one that fails must not keep the document from the others.
            asyncio.get_running_loop().call_soon(callback, PLATFORM.name, old, document)
