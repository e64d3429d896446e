"""Follows one file by looking at it: no thread, and right on every file system and after every kind of
write (in place, or renamed over it)."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

Signature = tuple[int, int, int]
"""Inode, size, and nanoseconds of the last change."""


def signature(path: Path) -> Signature | None:
    """None when the file is away."""
    try:
        about = os.stat(path)
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns


class StatPoll:
    """Calls `changed` in the event loop when the file is another than it was at the last call.

    With `settle`, only when it has stayed the same from one look to the next: an editor that writes in
    place is then not read half-way.
    """

    def __init__(
        self, path: Path, changed: Callable[[], None], *, interval: float, settle: bool = False
    ) -> None:
        self._path = path
        self._changed = changed
        self._interval = interval
        self._settle = settle
        self._told: Signature | None = None
        self._seen: Signature | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, known: Signature | None) -> None:
        """`known` was taken before the file was read: nothing in between is missed."""
        self._told = self._seen = known
        self._again()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._look)

    def _look(self) -> None:
        self._again()  # first: what `changed` raises must not end it
        found = signature(self._path)
        settled = not self._settle or found == self._seen
        self._seen = found
        if settled and found != self._told:
            self._told = found
            self._changed()
