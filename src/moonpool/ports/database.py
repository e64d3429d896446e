"""A relational database that belongs to one service.

SQLAlchemy Core is the language that stores speak; what differs between servers (drivers, pragmas,
locks, errors) stays behind this port.
"""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection


class Database(Protocol):
    """Raises core.errors.Unavailable when the database is away or exhausted, and BadRequest for a value that
    no column can hold, never a driver's error (constraint violations stay sqlalchemy.exc.IntegrityError)."""

    async def start(self) -> None:
        """Open the pool; bring the schema to this code's version under a lock.

        Raises StartupError when the database is newer than the code, unreachable or not writable.
        """

    async def stop(self) -> None: ...

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A write transaction: committed at the end, rolled back on error; serialised where the
        database has a single writer."""

    def snapshot(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A read-only view; many at a time."""

    async def ping(self) -> None:
        """Raises Unavailable when the database does not answer."""
