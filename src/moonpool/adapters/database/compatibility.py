"""Which code may work on a schema, and which is at work on it (docs/adr/0015-schemas-across-releases.md).

    migration 0002  compatible_from = "0001"   expand: code that knows 0001 only works on it, too
    migration 0003  compatible_from = "0002"   contract: what 0002 made unnecessary goes
    migration 0004  (says nothing)             only code that knows it

The oldest revision whose code works on the schema is kept in the database, beside Alembic's own, for code
that does not know the migrations that made it. Code at work holds a shared lock named after its revision, so
that nobody takes a schema from under it; the kernel lets go of it when the process ends, however it does.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from moonpool.adapters.database.file_lock import shared, try_exclusive
from moonpool.adapters.database.revisions import Revisions
from moonpool.core.errors import StartupError

TABLE = "schema_compatibility"


def read_oldest(connection: sqlite3.Connection) -> str | None:
    """The oldest revision whose code works on this schema; None: only the recorded one's."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (TABLE,)).fetchone() is None:
        return None
    row = connection.execute(f"SELECT oldest FROM {TABLE}").fetchone()  # noqa: S608 - a name of ours
    return None if row is None else str(row[0])


def record_oldest(execute: Callable[[str], object], oldest: str | None) -> None:
    """Part of the transaction of the migration that makes it so. None: only code that knows that one."""
    execute(f"DROP TABLE IF EXISTS {TABLE}")
    if oldest is not None:
        quoted = oldest.replace("'", "''")
        execute(f"CREATE TABLE {TABLE} (oldest TEXT NOT NULL)")
        execute(f"INSERT INTO {TABLE} VALUES ('{quoted}')")  # noqa: S608 - of our own scripts


class Use:
    """That code of one revision is at work on a database, until `release`."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def begin_use(path: Path, revisions: Revisions, *, timeout: float) -> Use:
    """Raises StartupError when a migration holds it longer than `timeout` seconds."""
    if revisions.head is None:
        return Use(None)
    return Use(shared(_lock(path, revisions.head), timeout=timeout))


@contextmanager
def nobody_older(path: Path, revisions: Revisions, oldest: str) -> Iterator[None]:
    """Keep code of revisions before `oldest` away. Raises StartupError when some is at work."""
    with ExitStack() as held:
        for revision in revisions.known[: revisions.known.index(oldest)]:
            descriptor = try_exclusive(_lock(path, revision))
            if descriptor is None:
                raise StartupError(
                    f"its schema ({revisions.head}) is for code of revision {oldest} and later, "
                    f"and code of revision {revision} is at work on the database",
                    where=str(path),
                    hint=f"Upgrade to a release at revision {oldest} first, or stop the platform and start "
                    "it with this release. Nothing was changed.",
                )
            held.callback(os.close, descriptor)
        yield


def _lock(path: Path, revision: str) -> Path:
    return path.with_name(f"{path.name}.used-{revision}")
