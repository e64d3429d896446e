import asyncio

import pytest
import structlog

from harness.letters import MemoryLetters, make_letter
from moonpool.core.clock import ManualClock
from moonpool.core.errors import Unavailable
from moonpool.middleware.letter_claim import LEASE, Claim
from moonpool.ports.dead_letters import Letter, State


class Letters(MemoryLetters):
    """Tells of every renewal; `lost` refuses them."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.renewed = asyncio.Event()
        self.written: asyncio.Event | None = None

    async def renew(self, id: str, *, held: float, until: float) -> bool:
        try:
            return await super().renew(id, held=held, until=until)
        finally:
            self.renewed.set()
            if self.written is not None:
                await self.written.wait()


async def claimed() -> tuple[Letters, Letter, Claim]:
    clock = ManualClock()
    letters = Letters(clock)
    await letters.put(make_letter())
    letter = await letters.claim("dl_1", now=clock.time(), until=clock.time() + LEASE)
    assert letter is not None
    return letters, letter, Claim(letters, letter, clock, structlog.get_logger(), every=0.001)


def until(letters: Letters) -> float:
    return letters.letters["dl_1"].note.leased_until


async def test_it_is_kept_for_as_long_as_the_work_takes_and_then_settled() -> None:
    letters, letter, claim = await claimed()
    async with claim:
        for _ in range(3):
            letters.clock.advance(LEASE - 1.0)
            letters.renewed.clear()
            await letters.renewed.wait()
            assert await letters.claim("dl_1", now=letters.clock.time(), until=9e9) is None
    assert until(letters) == letters.clock.time() + LEASE
    assert await claim.settle(letter)
    assert until(letters) == 0.0


async def test_a_renewal_that_is_being_written_at_the_end_is_known() -> None:
    letters, letter, claim = await claimed()
    letters.written = asyncio.Event()
    async with claim:
        letters.clock.advance(5.0)
        await letters.renewed.wait()
        asyncio.get_running_loop().call_soon(letters.written.set)
    assert await claim.settle(letter), "by the time that was written last"


async def test_a_store_that_is_away_for_a_moment_costs_nothing() -> None:
    letters, letter, claim = await claimed()
    letters.away = True
    async with claim:
        await letters.renewed.wait()
        letters.away = False
        letters.renewed.clear()
        letters.clock.advance(5.0)
        await letters.renewed.wait()
    assert await claim.settle(letter)


async def test_who_has_lost_it_says_nothing_more() -> None:
    letters, letter, claim = await claimed()
    letters.clock.advance(LEASE + 1.0)
    other = await letters.claim("dl_1", now=letters.clock.time(), until=9e9)
    assert other is not None
    async with claim:
        await letters.renewed.wait()
    assert not await claim.settle(letter)
    note = letters.letters["dl_1"].note
    assert (note.state, note.leased_until) == (State.WAITING, 9e9)


async def test_an_error_of_the_work_is_the_work_s() -> None:
    letters, _letter, claim = await claimed()
    with pytest.raises(Unavailable, match="the service is away"):
        async with claim:
            raise Unavailable("the service is away")
    letters.renewed.clear()
    await asyncio.sleep(0.005)
    assert not letters.renewed.is_set(), "nobody renews it any more"
