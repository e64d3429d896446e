"""Tells waiting consumers that the log's file has changed, at next to no cost while it has not.

`PRAGMA data_version` changes with every commit of any other connection, and is read from shared memory:
about ten microseconds a look, so it is asked in the event loop itself, and only while someone waits.
"""

import asyncio
import sqlite3
from pathlib import Path

from moonpool.adapters.events.sqlite_schema import connect

QUICK = 0.025
"""Seconds between looks right after a change; grows to SLOW while nothing happens."""
SLOW = 0.1
_GROWTH = 1.3


class Watcher:
    """`version` grows when something may have changed. Make it in the event loop."""

    def __init__(self, path: Path) -> None:
        self.version = 0
        self._connection = connect(path, synchronous="NORMAL", timeout=0.0)  # never blocks the loop
        self._seen: object = None
        self._delay = QUICK
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    def close(self) -> None:
        """Wakes all who wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.notify()
        self._connection.close()

    def notify(self) -> None:
        """This process has changed something itself."""
        self.version += 1
        self._delay = QUICK
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def changed(self, since: int, timeout: float) -> None:
        """Return when `version` is beyond `since`, or after `timeout` seconds."""
        if self.version != since:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.add(future)
        if self._timer is None:
            self._timer = loop.call_later(self._delay, self._look)
        try:
            await asyncio.wait((future,), timeout=timeout)
        finally:
            self._waiting.discard(future)

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        try:
            found: object = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            found = object()  # unknown: the consumer that looks will get the error and tell of it
        if found != self._seen:
            self._seen = found
            self.notify()
        else:
            self._delay = min(SLOW, self._delay * _GROWTH)
        self._timer = asyncio.get_running_loop().call_later(self._delay, self._look)
