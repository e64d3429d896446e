"""One service's database in one SQLite file.

    transaction() ──► one connection, one at a time (BEGIN IMMEDIATE) ──┐
    snapshot()    ──► up to READERS connections, query_only ────────────┴─► file, WAL

Writers of one process queue in order of arrival, so they never meet SQLite's lock; those of several
processes (two releases side by side) wait on it for BUSY_TIMEOUT. Readers never wait for a writer.
A cancelled caller is cancelled between statements (see patient_connection.py).
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, cast

import sqlalchemy.exc
import structlog
from sqlalchemy import URL, AdaptedConnection, Connection, ExceptionContext, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from moonpool.adapters.database.compatibility import Use
from moonpool.adapters.database.migrate import use_schema
from moonpool.adapters.database.patient_connection import open_patiently
from moonpool.adapters.database.sqlite_errors import UNSTORABLE, translate, unstorable
from moonpool.core.errors import StartupError, Unavailable

READERS = 4
BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process's lock, and for a free connection."""

Synchronous = Literal["NORMAL", "FULL"]

_log = structlog.get_logger(__name__)


class SqliteDatabase:
    """Implements ports.database.Database.

    With `synchronous` NORMAL a commit survives the death of the process, and with FULL also that of
    the machine (an fsync each). The file is made on the first start, below `path`'s folder.
    """

    def __init__(
        self,
        path: Path,
        migrations: Path,
        *,
        synchronous: Synchronous = "NORMAL",
        readers: int = READERS,
        busy_timeout: float = BUSY_TIMEOUT,
    ) -> None:
        self._path = path
        self._migrations = migrations
        self._synchronous = synchronous
        self._readers = readers
        self._busy_timeout = busy_timeout
        self._subject = f"the {path.stem} database"
        self._write_lock = asyncio.Lock()
        self._use: Use | None = None
        self._writer: AsyncEngine | None = None
        self._reader: AsyncEngine | None = None

    def migrate(self) -> None:
        """Bring the file to the schema of this code, and nothing else; `start` does so by itself.

        Raises StartupError as `ensure_schema` does.
        """
        use_schema(self._path, self._migrations).release()

    async def start(self) -> None:
        self._use = await asyncio.to_thread(use_schema, self._path, self._migrations)
        self._writer = self._engine(1, "BEGIN IMMEDIATE", f"PRAGMA synchronous = {self._synchronous}")
        self._reader = self._engine(self._readers, "BEGIN", "PRAGMA query_only = ON")
        try:
            async with self.transaction():
                pass  # taking the write lock proves that the file can be written
        except Unavailable as error:
            await self.stop()
            raise StartupError(error.message, where=str(self._path), hint=error.hint) from error

    async def stop(self) -> None:
        """Waits for the transaction that is under way."""
        async with self._write_lock:
            engines, self._writer, self._reader = (self._writer, self._reader), None, None
            for engine in engines:
                if engine is not None:
                    await engine.dispose()
            if self._use is not None:
                self._use.release()
                self._use = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        async with self._write_lock, self._begin(self._writer) as connection:
            yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        async with self._begin(self._reader) as connection:
            yield connection

    async def ping(self) -> None:
        async with self.snapshot() as connection:
            # Reads the file, not only the connection.
            await connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")

    @asynccontextmanager
    async def _begin(self, engine: AsyncEngine | None) -> AsyncIterator[AsyncConnection]:
        if engine is None:
            raise Unavailable(f"The {self._path.stem} database is closed.", retry_after=1.0)
        try:
            async with engine.begin() as connection:
                yield connection
        except sqlalchemy.exc.TimeoutError as error:  # only the pool raises it
            raise Unavailable(
                f"The {self._path.stem} database is exhausted: all its connections are in use.",
                retry_after=1.0,
            ) from error

    def _engine(self, size: int, begin: str, *pragmas: str) -> AsyncEngine:
        engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=str(self._path)),
            pool_size=size,
            max_overflow=0,
            pool_timeout=self._busy_timeout,
            connect_args={
                "async_creator_fn": lambda *_, **__: open_patiently(
                    str(self._path), timeout=self._busy_timeout
                )
            },
        )

        @event.listens_for(engine.sync_engine, "connect")
        def _(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
            cursor = connection.cursor()
            for pragma in ("PRAGMA foreign_keys = ON", *pragmas):
                cursor.execute(pragma)
            cursor.close()

        @event.listens_for(engine.sync_engine, "begin")
        def _(connection: Connection) -> None:
            self._execute_begin(connection, begin)

        # At the source rather than around the block: a store sees only errors of the port, also inside.
        @event.listens_for(engine.sync_engine, "handle_error")
        def _(context: ExceptionContext) -> None:
            self._raise(context, writable=engine is not self._reader)

        return engine

    def _execute_begin(self, connection: Connection, statement: str) -> None:
        """With one call to the driver's thread, where SQLAlchemy's cursor would need three."""
        driver = cast(AdaptedConnection, connection.connection.dbapi_connection)
        try:
            driver.run_async(lambda opened: opened.execute(statement))
        except sqlite3.Error as error:
            _log.error("database error", database=str(self._path), error=str(error), statement=statement)
            raise translate(error, self._subject) from error

    def _raise(self, context: ExceptionContext, *, writable: bool) -> None:
        error = context.original_exception
        if isinstance(error, UNSTORABLE):
            raise unstorable() from error
        if not isinstance(error, sqlite3.Error) or isinstance(error, sqlite3.IntegrityError):
            return
        _log.error("database error", database=str(self._path), error=str(error), statement=context.statement)
        raise translate(error, self._subject, writable=writable) from error
