"""Brings a SQLite file to the schema of this code.

    no file, or behind ──► lock ──► look again ──► each migration in its own transaction ──► head
    at the head        ──► nothing (Alembic is not even imported)
    revision unknown   ──► nothing, when the newer schema is for this code, too (compatibility.py); else
                           StartupError: the database is newer than the code; nothing is changed

Services have only `migrations/versions/NNNN_what.py`; what Alembic calls the environment is here. All
functions are synchronous: `SqliteDatabase.start` calls them in a thread, and before that a first start calls
them in a short-lived child (wiring/migrating.py), so that no service keeps what Alembic takes.
"""

import importlib.resources
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moonpool.adapters.database.compatibility import (
    Use,
    begin_use,
    nobody_older,
    read_oldest,
    record_oldest,
)
from moonpool.adapters.database.file_lock import locked
from moonpool.adapters.database.revisions import Revisions, read_revisions
from moonpool.core.errors import StartupError

if TYPE_CHECKING:
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection, Engine

LOCK_TIMEOUT = 120.0
"""Seconds to wait for another process's migration."""
_BUSY_TIMEOUT = 10.0
_ALEMBIC = threading.Lock()
"""Alembic's `op` and `context` are the process's: two services of one process migrate one after the other."""


def service_migrations(service: str) -> Path:
    """The folder `migrations` next to the package of that service."""
    return Path(str(importlib.resources.files(f"moonpool.services.{service}"))) / "migrations"


def is_current(path: Path, migrations: Path) -> bool:
    """Whether the file is in WAL mode and at the head: a few hundred microseconds.

    Raises StartupError as `ensure_schema` does.
    """
    return _is_current(path, read_revisions(migrations))


def use_schema(path: Path, migrations: Path) -> Use:
    """`ensure_schema`; and until the use is released nobody changes the schema to one that is not for this
    code. Raises StartupError."""
    _prepare_folder(path)
    use = begin_use(path, read_revisions(migrations), timeout=LOCK_TIMEOUT)
    try:
        ensure_schema(path, migrations)
    except BaseException:
        use.release()
        raise
    return use


def ensure_schema(path: Path, migrations: Path) -> None:
    """Make the file if need be and run what is missing; safe in several processes at once.

    Raises StartupError when the database is for newer code, or older code is at work on it that the new
    schema is not for; when it is damaged, not writable or out of disk space, or a migration fails (then
    that migration is rolled back and those before it stay).
    """
    revisions = read_revisions(migrations)
    if _is_current(path, revisions):
        return
    _prepare_folder(path)
    with locked(path.with_name(path.name + ".lock"), timeout=LOCK_TIMEOUT):
        if _is_current(path, revisions):
            return
        try:
            _switch_to_wal(path)
        except sqlite3.Error as error:
            raise _cannot(path, str(error)) from error
        if revisions.head is not None:
            with nobody_older(path, revisions, revisions.oldest_at(revisions.head)):
                _upgrade(path, migrations, revisions)


def _is_current(path: Path, revisions: Revisions) -> bool:
    if not path.exists():
        return False
    try:
        with closing(_open(path)) as connection:
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            recorded = _recorded(connection)
            newer = recorded is not None and recorded not in revisions.known
            oldest = read_oldest(connection) if newer else None
    except sqlite3.Error as error:
        raise _cannot(path, str(error)) from error
    if newer and oldest not in revisions.known:
        raise StartupError(
            f"the database is newer than this code: it is at revision {recorded}, for code from "
            f"{oldest or recorded} on; this code knows up to {revisions.head or 'none'}",
            where=str(path),
            hint="Start the release that wrote it, or restore the copy from before that upgrade. "
            "Nothing was changed.",
        )
    return bool(mode == "wal") and (newer or recorded == revisions.head)


def _open(path: Path) -> sqlite3.Connection:
    # mode=rw: a missing file is an error, never silently an empty database.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT, isolation_level=None)


def _recorded(connection: sqlite3.Connection) -> str | None:
    table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
    if connection.execute(table).fetchone() is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _prepare_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite gives the -wal and -shm files the permissions of the database: its owner's only.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise _cannot(path, error.strerror or str(error)) from error


def _switch_to_wal(path: Path) -> None:
    with closing(_open(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def _upgrade(path: Path, migrations: Path, revisions: Revisions) -> None:
    # Imported here: only a first start and an upgrade need them (see revisions.py).
    import alembic.util
    import sqlalchemy.exc
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(migrations))
    engine = _engine(path)
    try:
        with (
            _ALEMBIC,
            engine.connect() as connection,
            EnvironmentContext(Config(), script) as environment,
        ):
            _run(environment, connection, script, revisions)
    except (sqlalchemy.exc.SQLAlchemyError, alembic.util.CommandError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        raise _cannot(path, f"a migration to {revisions.head} failed: {cause}") from error
    finally:
        engine.dispose()


def _engine(path: Path) -> "Engine":
    import sqlalchemy

    engine = sqlalchemy.create_engine(
        sqlalchemy.URL.create("sqlite", database=str(path)),
        poolclass=sqlalchemy.NullPool,
        connect_args={"isolation_level": None, "timeout": _BUSY_TIMEOUT},
    )

    # The driver would leave DDL outside of transactions; beginning them ourselves makes each migration
    # all or nothing. Foreign keys stay off, since rebuilding a table would otherwise cascade.
    @sqlalchemy.event.listens_for(engine, "begin")
    def _(connection: "Connection") -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _run(
    environment: "EnvironmentContext",
    connection: "Connection",
    script: "ScriptDirectory",
    revisions: Revisions,
) -> None:
    from alembic.util import CommandError

    def missing(revision: Any, _context: object) -> Any:  # Alembic's own loose types
        return script._upgrade_revs("head", revision)

    def applied(ctx: object, step: Any, heads: object, run_args: object) -> None:
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise CommandError(f"rows of table {broken[0]} refer to rows that do not exist")
        oldest = revisions.oldest_at(step.up_revision_id)
        record_oldest(connection.exec_driver_sql, None if oldest == step.up_revision_id else oldest)

    environment.configure(
        connection=connection,
        fn=missing,
        transactional_ddl=True,
        transaction_per_migration=True,
        on_version_apply=applied,
    )
    with environment.begin_transaction():
        environment.run_migrations()


def _cannot(path: Path, reason: str) -> StartupError:
    return StartupError(
        f"the database cannot be made ready: {reason}",
        where=str(path),
        hint="Check that the folder is writable and the disk has space; nothing was half-written.",
    )
