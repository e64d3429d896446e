"""The outbox on auth's database: any service's would do."""

import asyncio

import pytest
import structlog

from moonpool.asgi.outbox import BATCH, Outbox
from moonpool.core.errors import Unavailable
from moonpool.services.auth.tables import outbox as table


@pytest.fixture
async def parts(make_parts):
    return await make_parts("auth")


@pytest.fixture
def outbox(parts) -> Outbox:
    return Outbox(
        table, database=parts.database, events=parts.events, clock=parts.clock, log=structlog.get_logger()
    )


async def test_what_is_rolled_back_is_not_told(parts, outbox) -> None:
    async def fail() -> None:
        async with parts.database.transaction() as connection:
            await outbox.add(connection, topic="t", key="a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await outbox.deliver() == 0
    assert parts.events.topics == {}


async def test_delivers_in_order_and_forgets(parts, outbox) -> None:
    for key in "abc":
        async with parts.database.transaction() as connection:
            await outbox.add(connection, topic="t", key=key, value=key.encode())
    assert await outbox.deliver() == 3
    assert [(event.key, event.value) for event in parts.events.topics["t"]] == [
        ("a", b"a"),
        ("b", b"b"),
        ("c", b"c"),
    ]
    assert await outbox.pending() == 0


async def test_keeps_what_the_log_does_not_take(parts, outbox) -> None:
    parts.events.away = True
    async with parts.database.transaction() as connection:
        await outbox.add(connection, topic="t", key="a")
    with pytest.raises(Unavailable):
        await outbox.deliver()
    assert await outbox.pending() == 1
    parts.events.away = False
    assert await outbox.deliver() == 1


async def test_a_repetition_has_the_same_id(parts, outbox, monkeypatch) -> None:
    """Killed between the append and the delete: the event comes twice, recognisably."""
    async with parts.database.transaction() as connection:
        await outbox.add(connection, topic="t", key="a")

    def die():
        raise Unavailable("killed")

    monkeypatch.setattr(parts.database, "transaction", die)
    with pytest.raises(Unavailable):
        await outbox.deliver()
    monkeypatch.undo()
    await outbox.deliver()
    first, second = parts.events.topics["t"]
    assert first.id == second.id


async def test_runs_in_the_background(parts, outbox) -> None:
    job = asyncio.create_task(outbox.run())
    try:
        async with parts.database.transaction() as connection:
            for number in range(BATCH + 1):
                await outbox.add(connection, topic="t", key=str(number))
        outbox.notify()
        async with asyncio.timeout(5):
            while len(parts.events.topics.get("t", [])) <= BATCH:
                parts.events.appended.clear()
                await parts.events.appended.wait()
    finally:
        job.cancel()


async def test_who_ends_leaves_nothing_behind(parts, outbox) -> None:
    job = asyncio.create_task(outbox.run())
    await asyncio.sleep(0)
    async with parts.database.transaction() as connection:
        await outbox.add(connection, topic="t", key="late")
    # Not notified: its next look would have been seconds later, and another instance's as well.

    job.cancel()
    await asyncio.gather(job, return_exceptions=True)

    assert job.cancelled()
    assert [event.key for event in parts.events.topics["t"]] == ["late"]
    assert await outbox.pending() == 0


async def test_who_ends_while_the_log_is_away_leaves_its_events_to_the_next(parts, outbox) -> None:
    parts.events.away = True
    job = asyncio.create_task(outbox.run())
    async with parts.database.transaction() as connection:
        await outbox.add(connection, topic="t", key="late")

    job.cancel()
    await asyncio.gather(job, return_exceptions=True)

    assert job.cancelled()
    assert await outbox.pending() == 1
