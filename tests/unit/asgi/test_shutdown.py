import asyncio

import pytest

from moonpool.asgi.shutdown import Shutdown
from moonpool.core.clock import ManualClock


def test_the_time_that_is_left() -> None:
    clock = ManualClock()
    shutdown = Shutdown(clock)
    assert (shutdown.begun, shutdown.remaining()) == (False, 0.0)
    shutdown.begin(30.0)
    clock.advance(10.0)
    assert (shutdown.begun, shutdown.remaining()) == (True, 20.0)
    shutdown.begin(30.0)
    assert shutdown.remaining() == 20.0
    clock.advance(25.0)
    assert shutdown.remaining() == 0.0


def test_a_later_word_only_moves_the_deadline_nearer() -> None:
    clock = ManualClock()
    shutdown = Shutdown(clock)
    told: list[str] = []
    shutdown.on_begin(lambda: told.append("before"))
    shutdown.begin(900.0)
    clock.advance(100.0)
    shutdown.begin(30.0)
    assert shutdown.remaining() == 30.0
    shutdown.begin(900.0)
    assert shutdown.remaining() == 30.0
    shutdown.on_begin(lambda: told.append("after"))
    assert told == ["before", "after"]


async def test_who_waits_hears_of_the_first_word() -> None:
    shutdown = Shutdown(ManualClock())
    waiting = asyncio.create_task(shutdown.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    shutdown.begin(1.0)
    await asyncio.wait_for(waiting, 1)
    await shutdown.wait()


async def test_work_is_begun_anew_with_what_is_left_when_the_deadline_moves() -> None:
    clock, given, ended = ManualClock(), list[float](), asyncio.Event()
    shutdown = Shutdown(clock)

    async def work(seconds: float) -> str:
        given.append(seconds)
        await ended.wait()
        return "ended"

    shutdown.begin(900.0)
    working = asyncio.create_task(shutdown.within(work, keep=1.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.advance(100.0)
    shutdown.begin(30.0)
    while len(given) < 2:
        await asyncio.sleep(0)
    ended.set()
    assert await asyncio.wait_for(working, 1) == "ended"
    assert given == [899.0, 29.0]


async def test_work_that_fails_says_so_and_has_no_time_without_notice() -> None:
    async def work(seconds: float) -> None:
        raise ValueError(seconds)

    with pytest.raises(ValueError, match=r"^0\.0$"):
        await Shutdown(ManualClock()).within(work)


async def test_who_waits_for_the_work_may_be_cancelled_with_it() -> None:
    shutdown, begun, cancelled = Shutdown(ManualClock()), asyncio.Event(), asyncio.Event()

    async def work(seconds: float) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    working = asyncio.create_task(shutdown.within(work))
    await begun.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert cancelled.is_set()
