"""A driver connection that a cancelled caller is not torn out of.

SQLAlchemy throws a connection away when a statement on it is cancelled, and with SQLite that leaves its
thread and its open read transaction behind (which keeps the WAL from being truncated). Clients leave
all the time. A statement takes well under a millisecond, so the cancellation waits for it: the caller
is cancelled at its next await that is not one of the database's.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import aiosqlite

R = TypeVar("R")


class PatientConnection(aiosqlite.Connection):
    """`_execute` is what every call of the driver goes through to its thread."""

    async def _execute(self, fn: Callable[..., R], *args: object, **kwargs: object) -> R:
        if not self._running or self._connection is None:
            raise ValueError("Connection closed")  # as the driver says it
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((future, partial(fn, *args, **kwargs)))
        task = asyncio.current_task()
        cancelled = False
        while not future.done():
            try:
                await asyncio.wait((future,))
            except asyncio.CancelledError:
                cancelled = True
                if task is not None:
                    task.uncancel()
        if cancelled and task is not None:
            # Again, for the next await. `uncancel` before kept the count right that asyncio.timeout goes by.
            task.cancel()
        return future.result()


def open_patiently(path: str, *, timeout: float) -> PatientConnection:
    """Not yet connected: to be awaited. Transactions are ours to begin and end."""
    connection = PatientConnection(
        partial(sqlite3.connect, path, timeout=timeout, isolation_level=None, check_same_thread=False),
        64,  # rows that iterating over a cursor fetches at once: the driver's default
    )
    connection._thread.daemon = True  # as SQLAlchemy has it: a forgotten connection must not keep the process
    return connection
