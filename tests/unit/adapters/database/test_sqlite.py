"""What only the SQLite adapter has: pragmas, full disks, locks of other processes."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.core.errors import BadRequest, InternalError, StartupError, Unavailable

TABLE = """
from alembic import op
revision = "0001"
down_revision = None
def upgrade() -> None:
    op.execute("CREATE TABLE t (data BLOB)")
"""


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    (tmp_path / "m" / "versions").mkdir(parents=True)
    (tmp_path / "m" / "versions" / "0001_t.py").write_text(TABLE)
    return tmp_path / "m"


@pytest.fixture
async def database(tmp_path: Path, migrations: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "t.db", migrations, readers=2, busy_timeout=0.1)
    await database.start()
    yield database
    await database.stop()


@pytest.mark.parametrize(("synchronous", "value"), [("NORMAL", 1), ("FULL", 2)])
async def test_pragmas(tmp_path: Path, migrations: Path, synchronous: str, value: int) -> None:
    database = SqliteDatabase(tmp_path / "p.db", migrations, synchronous=synchronous)  # type: ignore[arg-type]
    await database.start()
    async with database.transaction() as connection:
        for pragma, expected in (("journal_mode", "wal"), ("foreign_keys", 1), ("synchronous", value)):
            assert (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar_one() == expected
    await database.stop()


async def test_a_full_disk_is_unavailable_and_nothing_is_half_written(database: SqliteDatabase) -> None:
    async with database.transaction() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 10}")  # SQLite's own SQLITE_FULL

    async def fill() -> None:
        async with database.transaction() as connection:
            for _ in range(100):
                await connection.exec_driver_sql("INSERT INTO t VALUES (zeroblob(4000))")

    with pytest.raises(Unavailable, match="disk is full") as caught:
        await fill()
    assert caught.value.hint
    async with database.snapshot() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM t")).scalar_one() == 0
    async with database.transaction() as connection:
        await connection.exec_driver_sql("INSERT INTO t VALUES (1)")


async def test_a_lock_that_another_process_keeps_is_unavailable(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="busy") as caught:
        async with database.transaction():
            pass
    assert caught.value.retry_after
    other.execute("ROLLBACK")
    other.close()
    async with database.transaction():
        pass


async def test_no_free_reader_is_unavailable(database: SqliteDatabase) -> None:
    async with database.snapshot(), database.snapshot():
        with pytest.raises(Unavailable, match="exhausted"):
            await database.ping()
    await database.ping()


async def test_writing_in_a_snapshot_is_the_callers_mistake(database: SqliteDatabase) -> None:
    with pytest.raises(InternalError):
        async with database.snapshot() as connection:
            await connection.exec_driver_sql("INSERT INTO t VALUES (1)")


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, "\ud800"])
async def test_what_no_column_holds_is_the_request_s_fault(database: SqliteDatabase, value: object) -> None:
    for view in (database.snapshot, database.transaction):
        with pytest.raises(BadRequest, match="range"):
            async with view() as connection:
                await connection.execute(text("SELECT * FROM t WHERE data = :value"), {"value": value})
    async with database.transaction() as connection:
        await connection.execute(text("INSERT INTO t VALUES (:value)"), {"value": 2**63 - 1})


async def test_a_path_that_cannot_be_made_is_a_startup_error(tmp_path: Path, migrations: Path) -> None:
    (tmp_path / "file").write_text("")
    database = SqliteDatabase(tmp_path / "file" / "t.db", migrations)
    with pytest.raises(StartupError) as caught:
        await database.start()
    assert caught.value.where == str(tmp_path / "file" / "t.db")
    assert caught.value.hint


async def test_a_file_that_is_no_database_is_a_startup_error(tmp_path: Path, migrations: Path) -> None:
    (tmp_path / "t.db").write_text("no database at all, but long enough to have a header " * 10)
    with pytest.raises(StartupError, match="not a database"):
        await SqliteDatabase(tmp_path / "t.db", migrations).start()


async def test_the_files_belong_to_their_owner_only(database: SqliteDatabase, tmp_path: Path) -> None:
    async with database.transaction() as connection:
        await connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    for name in ("t.db", "t.db-wal", "t.db-shm", "t.db.lock"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0, name


async def test_transactions_are_first_come_first_served(database: SqliteDatabase) -> None:
    order: list[int] = []

    async def work(number: int) -> None:
        async with database.transaction():
            order.append(number)

    await asyncio.gather(*(work(number) for number in range(10)))
    assert order == list(range(10))
