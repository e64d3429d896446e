"""What every database adapter promises (ports/database.py). A new adapter adds a parameter below."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.core.errors import MoonpoolError, StartupError, Unavailable
from moonpool.ports.database import Database

FIRST = """
import sqlalchemy as sa
from alembic import op
revision = "0001"
down_revision = None
def upgrade() -> None:
    op.create_table(
        "notes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("text", sa.Text, nullable=False, unique=True),
    )
"""
SECOND = """
import sqlalchemy as sa
from alembic import op
revision = "0002"
down_revision = "0001"
def upgrade() -> None:
    op.add_column("notes", sa.Column("stars", sa.Integer, nullable=False, server_default="0"))
"""

NOTES = sa.table("notes", sa.column("id"), sa.column("text"))
COUNT = sa.select(sa.func.count()).select_from(NOTES)


def write(migrations: Path, name: str, script: str) -> None:
    (migrations / "versions").mkdir(parents=True, exist_ok=True)
    (migrations / "versions" / name).write_text(script)


class Place:
    """Where one database lives; `open` gives an unstarted adapter to the same data."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.migrations = folder / "migrations"
        self._folder = folder
        self._kind = kind
        write(self.migrations, "0001_notes.py", FIRST)

    def open(self, migrations: Path | None = None) -> Database:
        assert self._kind == "sqlite"
        return SqliteDatabase(self._folder / "db" / "notes.db", migrations or self.migrations)


@pytest.fixture(params=["sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(tmp_path, request.param)


@pytest.fixture
async def database(place: Place) -> AsyncIterator[Database]:
    database = place.open()
    await database.start()
    yield database
    await database.stop()


async def count(database: Database) -> int:
    async with database.snapshot() as connection:
        return int((await connection.execute(COUNT)).scalar_one())


async def add(database: Database, text: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(NOTES.insert().values(text=text))


async def test_a_transaction_is_committed_at_its_end(database: Database) -> None:
    await add(database, "one")
    assert await count(database) == 1


async def test_an_error_rolls_back(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            await connection.execute(NOTES.insert().values(text="one"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await count(database) == 0


async def test_a_cancelled_transaction_rolls_back_and_frees_the_writer(database: Database) -> None:
    inside = asyncio.Event()

    async def hold() -> None:
        async with database.transaction() as connection:
            await connection.execute(NOTES.insert().values(text="one"))
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await add(database, "two")
    assert await count(database) == 1


async def test_constraint_violations_stay_integrity_errors(database: Database) -> None:
    await add(database, "one")
    with pytest.raises(sa.exc.IntegrityError):
        await add(database, "one")
    await add(database, "two")


async def test_a_wrong_statement_is_an_error_of_the_platform(database: Database) -> None:
    with pytest.raises(MoonpoolError):
        async with database.snapshot() as connection:
            await connection.exec_driver_sql("SELECT * FROM nowhere")
    assert await count(database) == 0


async def test_a_snapshot_cannot_write(database: Database) -> None:
    with pytest.raises(MoonpoolError):
        async with database.snapshot() as connection:
            await connection.execute(NOTES.insert().values(text="one"))
    assert await count(database) == 0


async def test_a_snapshot_sees_one_state_and_does_not_wait_for_a_writer(database: Database) -> None:
    async with database.snapshot() as before:
        assert (await before.execute(COUNT)).scalar_one() == 0
        await add(database, "one")
        assert (await before.execute(COUNT)).scalar_one() == 0
    async with database.transaction() as connection:
        await connection.execute(NOTES.insert().values(text="two"))
        assert await count(database) == 1


async def test_many_snapshots_at_a_time(database: Database) -> None:
    assert await asyncio.gather(*(count(database) for _ in range(50))) == [0] * 50


async def test_concurrent_transactions_do_not_lose_updates(database: Database) -> None:
    async def append(number: int) -> None:
        async with database.transaction() as connection:
            seen = (await connection.execute(COUNT)).scalar_one()
            await connection.execute(NOTES.insert().values(text=f"{seen}"))

    await asyncio.gather(*(append(number) for number in range(20)))
    assert await count(database) == 20


async def test_two_adapters_on_the_same_data(place: Place, database: Database) -> None:
    other = place.open()
    await other.start()
    await asyncio.gather(*(add(d, f"{i}-{id(d)}") for i in range(10) for d in (database, other)))
    assert await count(database) == await count(other) == 20
    await other.stop()


async def test_data_survives_a_restart(place: Place) -> None:
    for expected in (1, 2):
        database = place.open()
        await database.start()
        await add(database, f"note {expected}")
        assert await count(database) == expected
        await database.stop()


async def test_a_start_brings_the_schema_up(place: Place, database: Database) -> None:
    await add(database, "one")
    await database.stop()
    write(place.migrations, "0002_stars.py", SECOND)
    newer = place.open()
    await newer.start()
    async with newer.snapshot() as connection:
        assert (await connection.exec_driver_sql("SELECT stars FROM notes")).scalar_one() == 0
    await newer.stop()


async def test_starts_at_the_same_time_migrate_once(place: Place) -> None:
    databases = [place.open() for _ in range(4)]
    await asyncio.gather(*(database.start() for database in databases))
    assert [await count(database) for database in databases] == [0] * 4
    await asyncio.gather(*(database.stop() for database in databases))


async def test_a_newer_database_is_refused_and_left_alone(place: Place, tmp_path: Path) -> None:
    older = tmp_path / "older"
    write(older, "0001_notes.py", FIRST)
    write(place.migrations, "0002_stars.py", SECOND)
    newer = place.open()
    await newer.start()
    await add(newer, "one")
    await newer.stop()

    database = place.open(older)
    with pytest.raises(StartupError, match="newer than this code") as caught:
        await database.start()
    assert caught.value.where
    assert caught.value.hint
    await database.stop()

    await newer.start()
    assert await count(newer) == 1
    await newer.stop()


EXPANDED = SECOND.replace("down_revision", 'compatible_from = "0001"\ndown_revision')
CONTRACTED = """
from alembic import op
revision = "0003"
down_revision = "0002"
compatible_from = "0002"
def upgrade() -> None:
    op.execute("ALTER TABLE notes RENAME COLUMN text TO words")
"""


async def test_code_from_before_an_expansion_works_beside_code_from_after_it(
    place: Place, database: Database, tmp_path: Path
) -> None:
    await add(database, "before")
    newer_code = tmp_path / "newer"
    write(newer_code, "0001_notes.py", FIRST)
    write(newer_code, "0002_stars.py", EXPANDED)
    newer = place.open(newer_code)
    await newer.start()
    await asyncio.gather(*(add(d, f"{i}-{id(d)}") for i in range(10) for d in (database, newer)))
    again = place.open()  # a new process of the old code, as on the way back
    await again.start()
    await add(again, "after")
    assert await count(newer) == await count(again) == 22
    for one in (again, newer):
        await one.stop()


async def test_a_contraction_waits_for_the_end_of_code_that_it_is_not_for(
    place: Place, database: Database, tmp_path: Path
) -> None:
    later = tmp_path / "later"
    for name, script in (
        ("0001_notes.py", FIRST),
        ("0002_stars.py", EXPANDED),
        ("0003_words.py", CONTRACTED),
    ):
        write(later, name, script)
    contracting = place.open(later)
    with pytest.raises(StartupError, match=r"code of revision 0001 is at work") as caught:
        await contracting.start()
    assert "0002" in (caught.value.hint or "")
    await add(database, "unharmed")
    await database.stop()

    await contracting.start()

    older = place.open()
    with pytest.raises(StartupError, match=r"newer than this code.* from 0002 on"):
        await older.start()
    for one in (older, contracting):
        await one.stop()


async def test_a_contraction_is_made_beside_code_that_it_is_for(place: Place, tmp_path: Path) -> None:
    write(place.migrations, "0002_stars.py", EXPANDED)
    second = place.open()
    await second.start()
    later = tmp_path / "later"
    shutil.copytree(place.migrations, later)
    write(later, "0003_words.py", CONTRACTED)
    third = place.open(later)
    await third.start()
    await second.ping()
    again = place.open()
    await again.start()
    for one in (again, third, second):
        await one.stop()


async def test_a_failed_migration_changes_nothing(place: Place, database: Database) -> None:
    await add(database, "one")
    await database.stop()
    write(place.migrations, "0002_stars.py", SECOND + "    op.execute('nonsense')\n")
    with pytest.raises(StartupError, match="0002"):
        await place.open().start()
    write(place.migrations, "0002_stars.py", SECOND)
    mended = place.open()
    await mended.start()
    assert await count(mended) == 1
    await mended.stop()


async def test_ping(database: Database) -> None:
    await database.ping()


async def test_before_start_and_after_stop_it_is_unavailable(place: Place) -> None:
    database = place.open()
    with pytest.raises(Unavailable):
        await database.ping()
    await database.start()
    await database.stop()
    with pytest.raises(Unavailable):
        await add(database, "one")
    await database.stop()


async def test_stop_lets_a_transaction_end(database: Database) -> None:
    inside, go = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with database.transaction() as connection:
            inside.set()
            await go.wait()
            await connection.execute(NOTES.insert().values(text="one"))

    task = asyncio.create_task(work())
    await inside.wait()
    stopping = asyncio.create_task(database.stop())
    go.set()
    await asyncio.gather(task, stopping)
    await database.start()
    assert await count(database) == 1
