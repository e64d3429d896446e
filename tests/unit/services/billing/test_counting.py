"""Exactly once: repeated, poisoned, interrupted, and with the log or the database away."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql

from moonpool.asgi.background import Backoff
from moonpool.contracts.usage import TOPIC, Usage, UsageEvent
from moonpool.core.errors import Unavailable
from moonpool.ports.events import Delivered, Event
from moonpool.services.billing import store
from moonpool.services.billing.counting import GROUP, Counting
from moonpool.services.billing.tables import rejected_events, usage_events


def usage(event_id: str, tokens: int = 1) -> Event:
    event = UsageEvent(
        id=event_id,
        at=1_700_000_000.0,
        user="u",
        tenant="t",
        key="k",
        route="r",
        model="m",
        target="tgt",
        release="v1",
        usage=Usage(prompt_tokens=tokens),
        streamed=False,
    )
    return Event(event_id, "t", msgspec.json.encode(event))


def delivered(*events: Event, start: int = 0) -> list[Delivered]:
    return [Delivered(TOPIC, 0, start + n, 0.0, event) for n, event in enumerate(events)]


async def count(parts, table) -> int:
    async with parts.database.snapshot() as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar_one()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await condition():
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "next", lambda self: 0.001)


@pytest.fixture
async def parts(make_parts):
    return await make_parts("billing")


@pytest.fixture
def metrics() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def counting(parts, metrics) -> Counting:
    return Counting(
        database=parts.database,
        events=parts.events,
        clock=parts.clock,
        log=structlog.get_logger(),
        metrics=metrics,
    )


@asynccontextmanager
async def running(counting: Counting):
    job = asyncio.create_task(counting.run())
    try:
        yield
    finally:
        job.cancel()
        await asyncio.wait([job])


async def test_repetitions_are_counted_once(parts, counting, metrics) -> None:
    await counting.store(delivered(usage("a"), usage("b"), usage("a")))
    await counting.store(delivered(usage("b"), usage("c")))
    assert await count(parts, usage_events) == 3
    assert metrics.get_sample_value("moonpool_billing_events_total", {"result": "stored"}) == 3
    assert metrics.get_sample_value("moonpool_billing_events_total", {"result": "duplicate"}) == 2


async def test_the_first_word_counts(parts, counting) -> None:
    await counting.store(delivered(usage("a", tokens=7)))
    await counting.store(delivered(usage("a", tokens=9)))
    async with parts.database.snapshot() as connection:
        assert (await connection.execute(select(usage_events.c.prompt_tokens))).scalar_one() == 7


async def test_what_is_stored_is_what_came(parts, counting) -> None:
    """Rows are positional: every field a value of its own, so that none can stand in another's place."""
    numbers = Usage(prompt_tokens=11, cached_tokens=12, completion_tokens=13, reasoning_tokens=14)
    texts = {name: name for name in ("user", "tenant", "key", "route", "model", "target", "release")}
    for number, (streamed, estimated) in enumerate([(True, False), (False, True)]):
        event = UsageEvent(
            id=f"req_{number}",
            at=200_000.5,
            usage=numbers,
            streamed=streamed,
            estimated=estimated,
            outcome="cancelled",
            **texts,
        )
        await counting.store(delivered(Event("e", "k", msgspec.json.encode(event))))
        async with parts.database.snapshot() as connection:
            assert await store.find(connection, "tenant", "user", event.id) == event
            row = (await connection.execute(select(usage_events).where(usage_events.c.id == event.id))).one()
            assert (row.day, row.stored_at) == (2, parts.clock.time())


def test_both_dialects_pass_over_known_ids_and_tell_the_new_ones() -> None:
    assert "ON CONFLICT DO NOTHING" in store._INSERT_SQLITE
    assert store._INSERT_SQLITE.count("?") == len(usage_events.columns)
    statement = str(store._INSERT_POSTGRESQL.compile(dialect=postgresql.dialect()))
    assert "ON CONFLICT (id) DO NOTHING RETURNING usage_events.id" in statement


async def test_a_poisoned_event_is_kept_beside_and_stops_nobody(parts, counting, metrics) -> None:
    parts.events.topics[TOPIC] = [usage("a"), Event("bad\0", "t", b"{poison"), usage("b")]
    async with running(counting):
        await until(lambda: _committed(parts, 3))
    assert await count(parts, usage_events) == 2
    async with parts.database.snapshot() as connection:
        (row,) = (await connection.execute(select(rejected_events))).all()
    assert (row.topic, row.partition, row.offset, row.value) == (TOPIC, 0, 1, b"{poison")
    assert row.event_id == "bad\N{REPLACEMENT CHARACTER}"
    assert row.reason
    assert metrics.get_sample_value("moonpool_billing_events_total", {"result": "rejected"}) == 1


async def test_a_poisoned_event_that_comes_again_is_kept_once(parts, counting) -> None:
    for _ in range(2):
        await counting.store(delivered(Event("x", "t", b"{")))
    assert await count(parts, rejected_events) == 1


async def test_a_batch_is_all_or_nothing(parts, counting, monkeypatch) -> None:
    """Dies after the events were inserted, before the transaction ended."""

    async def die(*_: object) -> int:
        raise Unavailable("disk full")

    monkeypatch.setattr(store, "add_rejected", die)
    with pytest.raises(Unavailable):
        await counting.store(delivered(usage("a")))
    assert await count(parts, usage_events) == 0


async def test_the_offset_is_committed_after_the_events(parts, counting, monkeypatch) -> None:
    """The database fails three times: nothing is committed, nothing lost, nothing doubled."""
    original, failures = parts.database.transaction, 3

    def transaction():
        nonlocal failures
        if failures:
            failures -= 1
            assert parts.events.committed == {}
            raise Unavailable("database away")
        return original()

    monkeypatch.setattr(parts.database, "transaction", transaction)
    parts.events.topics[TOPIC] = [usage("a"), usage("b")]
    async with running(counting):
        await until(lambda: _committed(parts, 2))
    assert failures == 0
    assert await count(parts, usage_events) == 2


async def test_log_away(parts, counting) -> None:
    parts.events.away = True
    async with running(counting):
        await until(lambda: _troubled(counting))
        with pytest.raises(Unavailable, match="event log is away"):
            await counting.check()
        parts.events.away = False
        await parts.events.append(TOPIC, [usage("a")])
        await until(lambda: _committed(parts, 1))
        await until(lambda: _well(counting))
    assert await count(parts, usage_events) == 1


async def test_two_consumers_that_store_the_same_event(parts, counting, make_parts) -> None:
    other_parts = await make_parts("billing")
    other = Counting(
        database=other_parts.database,
        events=parts.events,
        clock=parts.clock,
        log=structlog.get_logger(),
        metrics=CollectorRegistry(),
    )
    batch = delivered(*(usage(f"e{n}") for n in range(50)))
    await asyncio.gather(counting.store(batch), other.store(batch), counting.store(batch))
    assert await count(parts, usage_events) == 50


async def test_lag_is_shown(parts, counting, metrics) -> None:
    parts.events.topics[TOPIC] = [usage("a"), usage("b")]
    job = asyncio.create_task(counting.watch_lag())
    await asyncio.sleep(0)
    assert metrics.get_sample_value("moonpool_billing_lag_events") == 2
    job.cancel()


async def _committed(parts, offset: int) -> bool:
    return parts.events.committed.get((TOPIC, GROUP)) == offset


async def _troubled(counting: Counting) -> bool:
    try:
        await counting.check()
    except Unavailable:
        return True
    return False


async def _well(counting: Counting) -> bool:
    return not await _troubled(counting)


async def test_one_event_of_the_log_carries_many_and_a_bad_line_stops_no_other(parts, counting) -> None:
    lines = [usage(f"req_{n}").value for n in range(1200)]
    lines[7] = b"{broken"
    lines[9] = b"[]"
    batch = Event("journal-0", "gateway", b"\n".join(lines))
    await counting.store(delivered(batch))
    await counting.store(delivered(batch))
    assert await count(parts, usage_events) == 1198
    async with parts.database.snapshot() as connection:
        rows = (await connection.execute(select(rejected_events.c.line, rejected_events.c.value))).all()
    assert sorted((row.line, row.value) for row in rows) == [(7, b"{broken"), (9, b"[]")]
