"""Callers that are cancelled in the middle of a statement."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from moonpool.adapters.database.patient_connection import PatientConnection, open_patiently
from moonpool.adapters.database.sqlite import SqliteDatabase

SLOW = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
          SELECT count(*) FROM n"""
"""Some tens of milliseconds."""


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[PatientConnection]:
    connection = await open_patiently(str(tmp_path / "t.db"), timeout=1.0)
    yield connection
    await connection.close()


async def test_the_statement_ends_and_the_next_await_is_cancelled(connection: PatientConnection) -> None:
    counted: list[int] = []

    async def work() -> None:
        cursor = await connection.execute(SLOW)
        counted.append((await cursor.fetchone())[0])  # type: ignore[index]
        await asyncio.sleep(0)
        counted.append(-1)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert counted == [300_000]


async def test_a_timeout_stays_a_timeout(connection: PatientConnection) -> None:
    async def work() -> None:
        async with asyncio.timeout(0.005):
            await connection.execute(SLOW)
            await asyncio.sleep(10)

    with pytest.raises(TimeoutError):
        await work()
    await asyncio.sleep(0)  # nothing of it is left in this task
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_the_error_of_a_statement_is_told_also_to_who_was_cancelled(
    connection: PatientConnection,
) -> None:
    async def work() -> None:
        await connection.execute("nonsense")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(sqlite3.OperationalError):
        await task


async def test_cancelling_anywhere_leaves_no_thread_and_no_transaction(tmp_path: Path) -> None:
    (tmp_path / "versions").mkdir()
    database = SqliteDatabase(tmp_path / "t.db", tmp_path, readers=2)
    await database.start()
    await asyncio.gather(database.ping(), database.ping())
    threads = set(threading.enumerate())

    async def write() -> None:
        async with database.transaction() as connection:
            await connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS t (x)")
            await connection.exec_driver_sql("INSERT INTO t VALUES (1)")
            await connection.exec_driver_sql("INSERT INTO t VALUES (2)")

    await write()
    for steps in range(60):
        tasks = [asyncio.create_task(write()), asyncio.create_task(database.ping())]
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await write()
    async with database.snapshot() as connection:
        rows = (await connection.exec_driver_sql("SELECT x, count(*) FROM t GROUP BY x")).all()
    assert len({row[1] for row in rows}) == 1, "each transaction is all or nothing"
    pool = {thread for thread in threading.enumerate() if thread not in threads}
    assert len(pool) <= 1, "at most a reader that was opened meanwhile"
    await database.stop()
