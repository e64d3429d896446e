"""What becomes of limits when Redis is away, slow or empty, and when a gateway dies."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from structlog.testing import capture_logs

from harness.redis_server import RedisServer
from moonpool.adapters.limits.held import PREFIX
from moonpool.adapters.limits.redis import TIMEOUT, RedisLimits
from moonpool.adapters.redis.address import parse_address
from moonpool.core.errors import Unavailable
from moonpool.ports.limits import Rate, Slot, Verdict

REQUESTS = Rate("requests:k", "requests", 6, 6)
TOKENS = Rate("tokens:k", "tokens", 100, 100)
PLACES = Slot("concurrent:k", "concurrent", 4)


@pytest.fixture
async def limits(redis: RedisServer) -> AsyncIterator[RedisLimits]:
    limits = RedisLimits(parse_address(redis.url), gateways=2)
    await limits.start()
    yield limits
    await limits.stop()


async def take(
    limits: RedisLimits,
    lease: str,
    units: Sequence[Rate] = (),
    slots: Sequence[Slot] = (),
    reserves: Sequence[Rate] = (),
    amount: int = 0,
) -> Verdict:
    verdict = limits.take(lease, units, slots, reserves, amount)
    return await verdict if inspect.isawaitable(verdict) else verdict


async def until(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        await asyncio.sleep(0.01)


async def test_a_killed_redis_leaves_the_local_share(limits: RedisLimits, redis: RedisServer) -> None:
    with capture_logs() as logs:
        redis.kill()
        granted = [(await take(limits, f"r{n}", (REQUESTS,))).refused is None for n in range(20)]
        assert sum(granted) == 3  # half of six
        refused = await take(limits, "r", (REQUESTS,), (PLACES,))
        assert refused.refused is REQUESTS
        places = [await take(limits, f"p{n}", (), (PLACES,)) for n in range(3)]
        assert [verdict.refused for verdict in places] == [None, None, PLACES]
        limits.settle(places[0], 0)
        assert (await take(limits, "p4", (), (PLACES,))).refused is None
        with pytest.raises(Unavailable):
            await limits.ping()
        assert not limits.shared
        redis.start()
        await until(lambda: limits.shared, "back")
    assert (await take(limits, "back", (REQUESTS,))).remaining == 5
    assert [entry["event"] for entry in logs] == ["redis is away", "redis is back"]
    # Each request and the ping; and, if the first one was still sent, that what it may have got is over.
    assert logs[1]["unanswered"] - (20 + 1 + 3 + 1 + 1) in (0, 1)


async def test_nobody_waits_for_a_redis_that_hangs(limits: RedisLimits, redis: RedisServer) -> None:
    redis.pause()
    try:
        began = time.monotonic()
        verdicts = await asyncio.gather(*(take(limits, f"r{n}", (REQUESTS,)) for n in range(100)))
        assert time.monotonic() - began < 100 * TIMEOUT / 5, "they wait together"
        assert sum(verdict.refused is None for verdict in verdicts) == 3
        began = time.monotonic()
        for n in range(100):
            await take(limits, f"next{n}", (REQUESTS,))
        assert time.monotonic() - began < 100 * TIMEOUT / 5, "nobody waits, now that it is known"
    finally:
        redis.resume()
    await until(lambda: limits.shared, "back")


async def test_what_was_settled_meanwhile_is_told_afterwards(limits: RedisLimits, redis: RedisServer) -> None:
    held = await take(limits, "r1", (), (PLACES,), (TOKENS,), 50)
    redis.pause()
    limits.settle(held, 30)
    await until(lambda: not limits.shared, "away")
    assert limits.due == 1
    redis.resume()
    await until(lambda: limits.shared and not limits.due, "told")
    await limits.flush()
    # Once, though it was told twice: the first time was heard late.
    probe = await take(limits, "probe", (), (), (TOKENS,), 1)
    assert 69 <= probe.remaining < 79  # a few come back while this runs; twice told were 39
    assert redis.ask("EXISTS", PREFIX + PLACES.key) == "0"


async def test_an_empty_redis_hears_what_is_held(limits: RedisLimits, redis: RedisServer) -> None:
    held = await take(limits, "r1", (), (PLACES,), (TOKENS,), 50)
    limits.use(held, 20)
    redis.kill()
    redis.start()
    await until(lambda: limits.shared, "back")
    await until(lambda: redis.ask("ZCARD", PREFIX + PLACES.key) == "1", "renewed")
    probe = await take(limits, "probe", (), (), (TOKENS,), 1)
    limits.settle(probe, 0)
    assert 49 <= probe.remaining <= 69  # what was used may have been told to the one that was killed
    limits.settle(held, 20)
    await limits.flush()
    assert redis.ask("EXISTS", PREFIX + PLACES.key) == "0"


async def test_forgotten_scripts_are_loaded_again(limits: RedisLimits, redis: RedisServer) -> None:
    redis.ask("SCRIPT", "FLUSH")
    assert (await take(limits, "r1", (REQUESTS,))).refused is None  # by the local share
    await until(lambda: limits.shared, "back")
    assert (await take(limits, "r2", (REQUESTS,))).remaining == 5


async def test_a_full_redis_is_as_good_as_none(limits: RedisLimits, redis: RedisServer) -> None:
    redis.ask("CONFIG", "SET", "maxmemory", "1")
    granted = [(await take(limits, f"r{n}", (REQUESTS,))).refused is None for n in range(9)]
    assert sum(granted) == 3
    assert not limits.shared
    redis.ask("CONFIG", "SET", "maxmemory", "0")
    await until(lambda: limits.shared, "back")


async def test_what_a_dead_gateway_held_comes_back(redis: RedisServer) -> None:
    address = parse_address(f"{redis.url}?timeout=5")
    dead, alive = (RedisLimits(address, lease_seconds=0.6) for _ in range(2))
    await dead.start()
    await alive.start()
    try:
        await take(dead, "d1", (), (PLACES,), (TOKENS,), 100)
        kept = await take(alive, "a1", (), (PLACES,))
        assert (await take(alive, "a2", (), (), (TOKENS,), 1)).refused is TOKENS
        assert dead._task is not None
        dead._task.cancel()  # it renews nothing any more
        await asyncio.sleep(0.7)
        assert (await take(alive, "a3", (), (), (TOKENS,), 100)).refused is None
        places = [await take(alive, f"p{n}", (), (PLACES,)) for n in range(4)]
        assert [one.refused for one in places].count(None) >= 3
        alive.settle(kept, 0)
    finally:
        await alive.stop()
        dead._leases.clear()
        await dead.stop()


async def test_what_a_living_gateway_holds_stays(redis: RedisServer) -> None:
    limits = RedisLimits(parse_address(f"{redis.url}?timeout=5"), lease_seconds=3.0)
    await limits.start()
    try:
        held = await take(limits, "r1", (), (PLACES,), (TOKENS,), 100)
        first = float(redis.ask("ZSCORE", PREFIX + PLACES.key, "r1"))
        await until(lambda: float(redis.ask("ZSCORE", PREFIX + PLACES.key, "r1")) > first, "renewed")
        assert (await take(limits, "r2", (), (), (TOKENS,), 1)).refused is TOKENS
        limits.settle(held, 0)
    finally:
        await limits.stop()


async def test_who_leaves_while_asking_holds_nothing(limits: RedisLimits, redis: RedisServer) -> None:
    asking = asyncio.create_task(take(limits, "r1", (), (PLACES,), (TOKENS,), 100))
    await asyncio.sleep(0)  # it is asked, and not answered
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (await take(limits, "r2", (), (), (TOKENS,), 100)).refused is None
    assert redis.ask("EXISTS", PREFIX + PLACES.key) == "0"


async def test_gateways_know_how_many_they_are(redis: RedisServer) -> None:
    address = parse_address(f"{redis.url}?timeout=5")
    several = [RedisLimits(address) for _ in range(3)]
    for one in several:
        await one.start()
    assert [one.gateways for one in several] == [1, 2, 3]
    for one in several:
        await one.stop()
    assert redis.ask("EXISTS", f"{PREFIX}gateways") == "0"


async def test_a_start_without_redis_is_a_start_all_the_same(redis: RedisServer) -> None:
    redis.kill()
    limits = RedisLimits(parse_address(redis.url), gateways=3)
    with capture_logs() as logs:
        await limits.start()
        verdicts = [await take(limits, f"r{n}", (REQUESTS,)) for n in range(9)]
        assert [verdict.refused for verdict in verdicts].count(None) == 2
        redis.start()
        await until(lambda: limits.shared, "there")
    await limits.stop()
    assert [entry["event"] for entry in logs] == ["redis is away", "redis is back"]


async def test_together_they_give_out_no_more(redis: RedisServer) -> None:
    """Two gateways, a thousand requests at once."""
    address = parse_address(f"{redis.url}?timeout=30")
    rate, places = Rate("requests:z", "requests", 100, 50), Slot("concurrent:z", "concurrent", 30)
    both = [RedisLimits(address) for _ in range(2)]
    for one in both:
        await one.start()
    try:
        asked = (take(both[n % 2], f"r{n}", (rate,), (places,)) for n in range(1000))
        verdicts = await asyncio.gather(*asked)
        assert sum(verdict.refused is None for verdict in verdicts) == 30
        asked = (take(both[n % 2], f"s{n}", (rate,)) for n in range(1000))
        began = time.monotonic()
        granted = sum(verdict.refused is None for verdict in await asyncio.gather(*asked))
        assert granted - 20 <= 1 + (time.monotonic() - began + 1) * 100 / 60
    finally:
        for one in both:
            await one.stop()
