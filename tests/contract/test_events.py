"""What every event log promises (ports/events.py). A new adapter adds a parameter below."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from moonpool.adapters.events.sqlite import SqliteEventLog
from moonpool.core.errors import Unavailable
from moonpool.ports.events import Consumer, Delivered, Event, EventLog

LEASE = 0.6
Open = Callable[..., EventLog]


@pytest.fixture(params=["sqlite"])
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Gives unstarted adapters to one and the same log, as different processes have them."""
    assert request.param == "sqlite"
    return lambda lease=LEASE: SqliteEventLog(tmp_path / "events.db", lease=lease)


@pytest.fixture
async def log(open_log: Open) -> AsyncIterator[EventLog]:
    log = open_log()
    await log.start()
    yield log
    await log.stop()


def events(count: int, *, key: str | None = None, prefix: str = "e") -> list[Event]:
    return [
        Event(f"{prefix}{number}", key or f"k{number}", f"value {number}".encode()) for number in range(count)
    ]


def ids(delivered: Sequence[Delivered]) -> list[str]:
    return [one.event.id for one in delivered]


async def drain(consumer: Consumer, count: int, *, timeout: float = 10.0) -> list[Delivered]:
    """Poll until `count` events came."""
    got: list[Delivered] = []
    async with asyncio.timeout(timeout):
        while len(got) < count:
            got += await consumer.poll(wait=0.2)
    return got


async def test_what_was_appended_is_delivered(log: EventLog) -> None:
    await log.append("t", events(20))
    async with log.consumer("t", "g") as consumer:
        got = await drain(consumer, 20)
    assert sorted(ids(got)) == sorted(event.id for event in events(20))
    assert {one.event.id: one.event for one in got} == {event.id: event for event in events(20)}
    assert {one.topic for one in got} == {"t"}
    assert all(one.at > 1_600_000_000 for one in got)


async def test_equal_keys_share_a_partition_and_keep_their_order(log: EventLog) -> None:
    for number in range(10):
        await log.append("t", [Event(f"a{number}", "a", b""), Event(f"b{number}", "b", b"")])
    async with log.consumer("t", "g") as consumer:
        got = await drain(consumer, 20)
    for key in "ab":
        mine = [one for one in got if one.event.key == key]
        assert [one.event.id for one in mine] == [f"{key}{number}" for number in range(10)]
        assert len({one.partition for one in mine}) == 1
        assert [one.offset for one in mine] == sorted(one.offset for one in mine)


async def test_topics_are_apart(log: EventLog) -> None:
    await log.append("t", events(1))
    async with log.consumer("other", "g") as consumer:
        assert not await consumer.poll(wait=0.0)


async def test_every_group_gets_every_event(log: EventLog) -> None:
    await log.append("t", events(5))
    async with log.consumer("t", "one") as one, log.consumer("t", "two") as two:
        assert sorted(ids(await drain(one, 5))) == sorted(ids(await drain(two, 5)))


async def test_a_poll_goes_on_after_the_last_one(log: EventLog) -> None:
    await log.append("t", events(30))
    async with log.consumer("t", "g") as consumer:
        first = await consumer.poll(limit=7)
        rest = await drain(consumer, 23)
    assert len(first) == 7
    assert len(set(ids(first) + ids(rest))) == 30


async def test_a_poll_waits_for_an_event(log: EventLog) -> None:
    async with log.consumer("t", "g") as consumer:
        waiting = asyncio.create_task(consumer.poll(wait=10.0))
        await asyncio.sleep(0)
        await log.append("t", events(1))
        assert ids(await waiting) == ["e0"]


async def test_a_poll_sees_what_another_process_appends(log: EventLog, open_log: Open) -> None:
    other = open_log()
    await other.start()
    async with log.consumer("t", "g") as consumer:
        waiting = asyncio.create_task(consumer.poll(wait=10.0))
        await asyncio.sleep(0.05)
        await other.append("t", events(1))
        assert ids(await waiting) == ["e0"]
    await other.stop()


async def test_a_poll_is_empty_after_its_wait(log: EventLog) -> None:
    async with log.consumer("t", "g") as consumer:
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert not await consumer.poll(wait=0.1)
        assert loop.time() - started >= 0.09


async def test_committed_events_do_not_come_again(log: EventLog) -> None:
    await log.append("t", events(10))
    async with log.consumer("t", "g") as consumer:
        await drain(consumer, 10)
        await consumer.commit()
    await log.append("t", events(1, prefix="later"))
    async with log.consumer("t", "g") as consumer:
        assert ids(await drain(consumer, 1)) == ["later0"]


async def test_uncommitted_events_come_again(log: EventLog) -> None:
    await log.append("t", events(10))
    async with log.consumer("t", "g") as consumer:
        await drain(consumer, 10)
    async with log.consumer("t", "g") as consumer:
        assert len(await drain(consumer, 10)) == 10


async def test_a_cancelled_poll_loses_nothing(log: EventLog) -> None:
    async with log.consumer("t", "g") as consumer:
        for round_ in range(5):
            waiting = asyncio.create_task(consumer.poll(wait=10.0))
            await asyncio.sleep(0)
            appending = asyncio.create_task(log.append("t", events(1, prefix=f"round{round_}-")))
            for _ in range(round_ * 3):
                await asyncio.sleep(0)
            waiting.cancel()
            got = await asyncio.gather(waiting, return_exceptions=True)
            await appending
            await consumer.commit()
            if isinstance(got[0], asyncio.CancelledError):
                assert ids(await drain(consumer, 1)) == [f"round{round_}-0"]


async def test_a_new_group_may_begin_at_the_end(log: EventLog) -> None:
    await log.append("t", events(5))
    async with log.consumer("t", "g", from_end=True) as consumer:
        await log.append("t", events(1, prefix="later"))
        assert ids(await drain(consumer, 1)) == ["later0"]
    async with log.consumer("t", "g", from_end=True) as consumer:  # known by now: where it was
        assert ids(await drain(consumer, 1)) == ["later0"]


async def test_live_members_share_the_partitions(log: EventLog, open_log: Open) -> None:
    other = open_log()
    await other.start()
    async with log.consumer("t", "g") as one, other.consumer("t", "g") as two:
        await asyncio.gather(one.poll(wait=0.3), two.poll(wait=0.3))
        await log.append("t", events(200))
        halves: list[list[Delivered]] = [[], []]
        async with asyncio.timeout(10):
            while sum(map(len, halves)) < 200:
                for half, consumer in zip(halves, (one, two), strict=True):
                    half += await consumer.poll(wait=0.1)
                    await consumer.commit()
        assert len(set(ids(halves[0]) + ids(halves[1]))) == 200
        partitions = [{one.partition for one in half} for half in halves]
        assert partitions[0]
        assert partitions[1]
        assert not partitions[0] & partitions[1]
    await other.stop()


async def test_who_joins_gets_no_event_that_another_has_in_hand(log: EventLog) -> None:
    await log.append("t", events(50))
    async with log.consumer("t", "g") as one:
        assert len(await drain(one, 50)) == 50
        async with log.consumer("t", "g") as two:
            assert not await two.poll(wait=LEASE)
            await one.commit()
            await log.append("t", events(50, prefix="later"))
            got = await asyncio.gather(one.poll(wait=2.0), two.poll(wait=2.0))
            assert got[1]
            assert not set(ids(got[0])) & set(ids(got[1]))


async def test_the_partitions_of_who_leaves_go_over_at_once(log: EventLog) -> None:
    async with log.consumer("t", "g") as one:
        async with log.consumer("t", "g") as two:
            await asyncio.gather(one.poll(wait=0.2), two.poll(wait=0.2))
        await log.append("t", events(50))
        assert len(await drain(one, 50)) == 50


async def test_what_who_leaves_had_in_hand_goes_to_one_who_waits_within_a_second(open_log: Open) -> None:
    log, other = open_log(lease=60.0), open_log(lease=60.0)
    await log.start()
    await other.start()
    async with other.consumer("t", "g") as two:
        async with log.consumer("t", "g") as one:
            await asyncio.gather(one.poll(wait=0.2), two.poll(wait=0.2))
            await log.append("t", events(50))
            in_hand = ids(await one.poll(wait=2.0))
            assert 0 < len(in_hand) < 50
            await drain(two, 50 - len(in_hand))
            await two.commit()
            waiting = asyncio.create_task(two.poll(wait=30.0))
            await asyncio.sleep(0)
        async with asyncio.timeout(1.0):
            assert sorted(ids(await waiting)) == sorted(in_hand)
    await log.stop()
    await other.stop()


async def test_append_takes_all_events_or_none(log: EventLog) -> None:
    await log.append("t", [])
    with pytest.raises(Exception, match="Unicode"):
        await log.append("t", [*events(3), Event("\ud800", "k", b"")])
    assert await log.lag("t", "g") == 0


async def test_concurrent_appends(log: EventLog) -> None:
    await asyncio.gather(*(log.append("t", events(2, prefix=f"{number}-")) for number in range(100)))
    async with log.consumer("t", "g") as consumer:
        assert len(set(ids(await drain(consumer, 200)))) == 200


async def test_lag(log: EventLog) -> None:
    assert await log.lag("t", "g") == 0
    await log.append("t", events(10))
    assert await log.lag("t", "g") == 10
    async with log.consumer("t", "g") as consumer:
        await drain(consumer, 10)
        assert await log.lag("t", "g") == 10
        await consumer.commit()
        assert await log.lag("t", "g") == 0
        await log.append("t", events(3))
        assert await log.lag("t", "g") == 3


async def test_what_was_appended_survives_a_restart(log: EventLog, open_log: Open) -> None:
    await log.append("t", events(5))
    await log.stop()
    again = open_log()
    await again.start()
    async with again.consumer("t", "g") as consumer:
        assert len(await drain(consumer, 5)) == 5
    await again.stop()


async def test_starts_at_the_same_time(open_log: Open) -> None:
    logs = [open_log() for _ in range(4)]
    await asyncio.gather(*(log.start() for log in logs))
    await asyncio.gather(*(log.append("t", events(5, prefix=f"{n}-")) for n, log in enumerate(logs)))
    assert [await log.lag("t", "g") for log in logs] == [20] * 4
    await asyncio.gather(*(log.stop() for log in logs))


async def test_before_start_and_after_stop_it_is_unavailable(log: EventLog, open_log: Open) -> None:
    with pytest.raises(Unavailable):
        await open_log().ping()
    await log.ping()
    async with log.consumer("t", "g") as consumer:
        await log.stop()
        with pytest.raises(Unavailable):
            await consumer.poll()
    with pytest.raises(Unavailable):
        await log.append("t", events(1))
    with pytest.raises(Unavailable):
        await log.lag("t", "g")


async def test_stop_writes_what_is_pending(log: EventLog, open_log: Open) -> None:
    appending = [asyncio.create_task(log.append("t", events(1, prefix=str(n)))) for n in range(20)]
    await asyncio.sleep(0)
    await log.stop()
    await asyncio.gather(*appending)
    again = open_log()
    await again.start()
    assert await again.lag("t", "g") == 20
    await again.stop()
