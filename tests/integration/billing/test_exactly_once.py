"""Usage is counted exactly once when billing's process is killed: real processes, SIGKILL, SQLite."""

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.adapters.database.migrate import service_migrations
from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.adapters.events.sqlite import SqliteEventLog
from moonpool.contracts.usage import TOPIC, Bill, TokenPrice, Usage, UsageEvent
from moonpool.ports.events import Event
from moonpool.services.billing.counting import GROUP
from moonpool.services.billing.tables import ledger_accounts, ledger_entries, spenders, usage_events

PRICE = TokenPrice(3_000, 3_000, 1_000)
"""3 nano-units a prompt token, 1 for an answer's."""
PROGRAM = Path(__file__).with_name("consumer_process.py")


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteEventLog]:
    events = SqliteEventLog(tmp_path / "events.db", lease=0.5)
    await events.start()
    yield events
    await events.stop()


def usage(number: int) -> Event:
    event = UsageEvent(
        id=f"req_{number}",
        at=1_700_000_000.0 + number,
        user="u",
        tenant=f"t{number % 7}",
        key="k",
        route="r",
        model="m",
        target="tgt",
        release="v1",
        usage=Usage(prompt_tokens=number, completion_tokens=1),
        streamed=False,
        bill=Bill(PRICE, f"gateway-{number % 2}"),
    )
    return Event(event.id, event.tenant, msgspec.json.encode(event))


async def append(log: SqliteEventLog, numbers: Iterable[int]) -> None:
    """Each event, and every third one twice, as a producer does that was not sure of the first time."""
    for number in numbers:
        await log.append(TOPIC, [usage(number)] * (2 if number % 3 == 0 else 1))


async def start(folder: Path, where: str = "") -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), str(folder), where, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"running\n"
    return process


async def kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()
    assert process.returncode == -signal.SIGKILL


async def finish(folder: Path, log: SqliteEventLog) -> tuple[int, int, int]:
    """Let a consumer that nobody kills store the rest; what is stored: events, distinct ids, tokens. What was
    charged for them is checked here."""
    process = await start(folder)
    try:
        async with asyncio.timeout(30):
            while await log.lag(TOPIC, GROUP):
                await asyncio.sleep(0.02)
    finally:
        await kill(process)
    database = SqliteDatabase(folder / "billing.db", service_migrations("billing"))
    await database.start()
    try:
        async with database.snapshot() as connection:
            table = usage_events.c
            query = select(func.count(), func.count(table.id.distinct()), func.sum(table.prompt_tokens))
            row = (await connection.execute(query)).one()
            await _check_charges(connection, cost=row[2] * 3 + row[0], events=row[0])
            return row[0], row[1], row[2]
    finally:
        await database.stop()


async def _check_charges(connection: AsyncConnection, *, cost: int, events: int) -> None:
    accounts = ledger_accounts.c
    earned = select(func.sum(accounts.credits)).where(accounts.account == "revenue")
    assert (await connection.execute(earned)).scalar_one() == cost
    sides = select(func.sum(accounts.debits), func.sum(accounts.credits))
    debits, credits = (await connection.execute(sides)).one()
    assert debits == credits == cost
    assert (await connection.execute(select(func.sum(spenders.c.posted)))).scalar_one() == cost
    entries = select(func.count()).select_from(ledger_entries)
    assert (await connection.execute(entries)).scalar_one() == events


@pytest.mark.parametrize("where", ["charged", "inserted", "stored", "committed"])
async def test_killed_at_each_step(where: str, tmp_path: Path, log: SqliteEventLog) -> None:
    await append(log, range(100))
    process = await start(tmp_path, where)
    await asyncio.wait_for(process.wait(), 20)
    await kill(process)
    assert await log.lag(TOPIC, GROUP) > 0  # it died in the middle
    assert await finish(tmp_path, log) == (100, 100, sum(range(100)))


async def test_killed_again_and_again_while_events_arrive(tmp_path: Path, log: SqliteEventLog) -> None:
    chance = random.Random(7)
    producer = asyncio.create_task(append(log, range(600)))
    for _ in range(4):
        process = await start(tmp_path)
        await asyncio.sleep(chance.uniform(0.0, 0.4))
        await kill(process)
    await producer
    assert await finish(tmp_path, log) == (600, 600, sum(range(600)))
