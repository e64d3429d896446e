"""The tables of the SQLite event log, and how its file is opened.

    topics ─< partitions ─< events          place = partition id · 2^40 + offset
                  │
    groups ─< shares (committed, owner) >── members (lease)

`place` is the row id, so a partition is one run of the B-tree in order of its offsets: a fetch is a
range scan and an append needs no second index.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from moonpool.adapters.database.file_lock import locked
from moonpool.core.errors import StartupError

VERSION = 1
OFFSET_BITS = 40
"""2^40 events a partition; 2^23 partitions."""
BUSY_TIMEOUT = 5.0
_LOCK_TIMEOUT = 30.0

NOW = "((julianday('now') - 2440587.5) * 86400.0)"
"""The database's own time: Unix seconds, to the millisecond."""

_TABLES = """
CREATE TABLE topics (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, partitions INTEGER NOT NULL
);
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY, topic INTEGER NOT NULL REFERENCES topics, number INTEGER NOT NULL,
    next INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, number)
);
CREATE TABLE events (
    place INTEGER PRIMARY KEY, at REAL NOT NULL, id TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL
);
CREATE TABLE groups (
    id INTEGER PRIMARY KEY, topic INTEGER NOT NULL REFERENCES topics, name TEXT NOT NULL,
    generation INTEGER NOT NULL DEFAULT 0, seen REAL NOT NULL, UNIQUE (topic, name)
);
CREATE TABLE shares (
    group_id INTEGER NOT NULL REFERENCES groups, partition INTEGER NOT NULL REFERENCES partitions,
    committed INTEGER NOT NULL, owner TEXT, PRIMARY KEY (group_id, partition)
) WITHOUT ROWID;
CREATE TABLE members (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    group_id INTEGER NOT NULL REFERENCES groups, expires REAL NOT NULL, lease REAL NOT NULL
);
CREATE INDEX members_of_group ON members (group_id);
"""


def connect(path: Path, *, synchronous: str, timeout: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    """A connection without implicit transactions. Raises sqlite3.Error."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(
        uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
    )
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA cache_size = -1024")  # KiB
    connection.execute("PRAGMA journal_size_limit = 67108864")
    return connection


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One transaction, the writer's lock taken at its beginning."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def prepare(path: Path) -> None:
    """Make the file and its tables if need be; safe in several processes at once.

    Raises StartupError when the file is newer than this code, damaged, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(path.name + ".lock"), timeout=_LOCK_TIMEOUT):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with closing(connect(path, synchronous="FULL")) as connection:
                _prepare(connection, path)
    except (OSError, sqlite3.Error) as error:
        raise StartupError(
            f"the event log cannot be opened: {error}",
            where=str(path),
            hint="Check that the folder is writable and the disk has space; nothing was half-written.",
        ) from error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise StartupError(
            f"the event log is newer than this code: version {version}, this code knows {VERSION}",
            where=str(path),
            hint="Start the release that wrote it. Nothing was changed.",
        )
    if version == VERSION:
        return
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only takes effect before the first table
    connection.execute("PRAGMA journal_mode = WAL")
    with writing(connection):
        for statement in _TABLES.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
