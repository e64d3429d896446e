"""What every store of limits promises (ports/limits.py). A new adapter adds a parameter below.

Rates are so slow here that the time a test takes gives nothing back.
"""

import asyncio
import inspect
import math
from collections.abc import AsyncIterator, Sequence

import pytest

from moonpool.adapters.limits.memory import MemoryLimits
from moonpool.adapters.limits.redis import RedisLimits
from moonpool.adapters.redis.address import parse_address
from moonpool.core.errors import Unavailable
from moonpool.ports.limits import Limits, Rate, Slot, Verdict


@pytest.fixture(params=["memory", "redis"])
async def limits(request: pytest.FixtureRequest) -> AsyncIterator[Limits]:
    limits: Limits = MemoryLimits()
    if request.param == "redis":
        limits = RedisLimits(parse_address(request.getfixturevalue("redis_url")))
    await limits.start()
    yield limits
    await limits.stop()


SLOW = Rate("requests:a", "requests", 3, 3)
FAST = Rate("requests:b", "requests-user", 1_000_000, 1_000_000)
TOKENS = Rate("tokens:a", "tokens", 100, 100)
OTHER_TOKENS = Rate("tokens:b", "tokens-model", 50, 50)
PLACES = Slot("concurrent:a", "concurrent", 2)


async def take(
    limits: Limits,
    lease: str,
    units: Sequence[Rate] = (),
    slots: Sequence[Slot] = (),
    reserves: Sequence[Rate] = (),
    amount: int = 0,
) -> Verdict:
    verdict = limits.take(lease, units, slots, reserves, amount)
    return await verdict if inspect.isawaitable(verdict) else verdict


async def reserve(limits: Limits, lease: str, amount: int) -> Verdict:
    return await take(limits, lease, reserves=(TOKENS,), amount=amount)


async def test_a_burst_and_no_more(limits: Limits) -> None:
    for left in (2, 1, 0):
        verdict = await take(limits, f"r{left}", (SLOW,))
        assert (verdict.refused, verdict.remaining, verdict.tightest) == (None, left, SLOW)
    verdict = await take(limits, "r", (SLOW,))
    assert verdict.refused is SLOW
    assert 19 < verdict.wait <= 20
    assert verdict.remaining == 0


async def test_the_same_key_is_the_same_bucket(limits: Limits) -> None:
    await take(limits, "r1", (SLOW,))
    again = Rate(SLOW.key, SLOW.name, SLOW.quota, SLOW.burst)
    assert (await take(limits, "r2", (again,))).remaining == 1
    other = Rate("requests:c", SLOW.name, SLOW.quota, SLOW.burst)
    assert (await take(limits, "r3", (other,))).remaining == 2


async def test_all_or_nothing(limits: Limits) -> None:
    for n in range(3):
        await take(limits, f"r{n}", (SLOW,))
    before = await take(limits, "before", (FAST,))
    for units in ((FAST, SLOW), (SLOW, FAST)):
        for n in range(5):
            refused = await take(limits, f"x{n}", units, (PLACES,), (TOKENS,), 100)
            assert refused.refused is SLOW
    after = await take(limits, "after", (FAST,), (PLACES,), (TOKENS,), 100)
    assert after.refused is None
    assert (await take(limits, "check", (FAST,))).remaining >= before.remaining - 2


async def test_the_tightest_is_told(limits: Limits) -> None:
    for units in ((FAST, SLOW), (SLOW, FAST)):
        assert (await take(limits, f"r{units[0].key}", units)).tightest is SLOW


async def test_places_come_back(limits: Limits) -> None:
    one = await take(limits, "r1", (), (PLACES,))
    two = await take(limits, "r2", (), (PLACES,))
    refused = await take(limits, "r3", (FAST,), (PLACES,))
    assert refused.refused is PLACES
    assert refused.wait > 0
    limits.settle(refused, 0)
    assert (await take(limits, "r4", (), (PLACES,))).refused is PLACES
    limits.settle(one, 0)
    limits.settle(one, 0)  # twice is once
    assert (await take(limits, "r5", (), (PLACES,))).refused is None
    assert (await take(limits, "r6", (), (PLACES,))).refused is PLACES
    limits.settle(two, 0)
    assert (await take(limits, "r7", (), (PLACES,))).refused is None


async def test_what_is_reserved_is_not_to_be_had(limits: Limits) -> None:
    assert (await reserve(limits, "r1", 60)).remaining == 40
    refused = await reserve(limits, "r2", 41)
    assert (refused.refused, refused.remaining) == (TOKENS, 40)
    assert 0 < refused.wait < 60
    assert (await reserve(limits, "r3", 40)).refused is None


async def test_what_was_not_used_comes_back_at_once(limits: Limits) -> None:
    held = await reserve(limits, "r1", 100)
    limits.settle(held, 10)
    assert (await reserve(limits, "r2", 89)).refused is None
    assert (await reserve(limits, "r3", 3)).refused is TOKENS


async def test_nothing_used_is_nothing_charged(limits: Limits) -> None:
    for n in range(20):
        held = await reserve(limits, f"r{n}", 100)
        assert held.refused is None
        limits.settle(held, 0)


async def test_use_charges_what_is_new(limits: Limits) -> None:
    held = await reserve(limits, "r1", 60)
    for used in (10, 30, 30, 20):  # a repetition and one that came late change nothing
        limits.use(held, used)
    assert (await reserve(limits, "probe", 41)).refused is TOKENS
    limits.settle(held, 30)
    probe = await reserve(limits, "probe", 70)
    assert probe.refused is None


async def test_progress_may_have_been_overestimated(limits: Limits) -> None:
    held = await reserve(limits, "r1", 60)
    limits.use(held, 50)
    limits.settle(held, 20)
    assert (await reserve(limits, "r2", 79)).refused is None
    assert (await reserve(limits, "r3", 3)).refused is TOKENS


async def test_what_goes_beyond_is_owed(limits: Limits) -> None:
    held = await reserve(limits, "r1", 20)
    limits.use(held, 150)
    limits.settle(held, 200)
    refused = await reserve(limits, "r2", 10)
    assert refused.refused is TOKENS
    assert 60 < refused.wait <= 66
    assert refused.remaining == 0


async def test_more_than_there_ever_is(limits: Limits) -> None:
    refused = await reserve(limits, "r1", 101)
    assert refused.refused is TOKENS
    assert math.isinf(refused.wait)


async def test_several_reservations_of_one_lease(limits: Limits) -> None:
    held = await take(limits, "r1", reserves=(TOKENS, OTHER_TOKENS), amount=40)
    assert (held.tightest, held.remaining) == (OTHER_TOKENS, 10)
    refused = await take(limits, "r2", reserves=(TOKENS, OTHER_TOKENS), amount=11)
    assert refused.refused is OTHER_TOKENS
    assert (await reserve(limits, "r3", 60)).refused is None  # the refused one kept nothing of TOKENS
    limits.settle(held, 0)
    assert (await take(limits, "r4", reserves=(OTHER_TOKENS,), amount=50)).refused is None


async def test_settled_is_settled(limits: Limits) -> None:
    held = await reserve(limits, "r1", 50)
    limits.settle(held, 10)
    limits.use(held, 90)
    limits.settle(held, 100)
    assert (await reserve(limits, "r2", 89)).refused is None


async def test_nothing_to_ask_for(limits: Limits) -> None:
    verdict = await take(limits, "r1")
    assert (verdict.refused, verdict.tightest) == (None, None)
    limits.settle(verdict, 0)


async def test_a_thousand_at_once(limits: Limits) -> None:
    rate, places = Rate("requests:z", "requests", 100, 50), Slot("concurrent:z", "concurrent", 30)
    verdicts = await asyncio.gather(*(take(limits, f"r{n}", (rate,), (places,)) for n in range(1000)))
    assert sum(verdict.refused is None for verdict in verdicts) == 30


async def test_ping(limits: Limits) -> None:
    await limits.ping()
    await limits.stop()
    with pytest.raises(Unavailable):
        await limits.ping()
