"""What every cache promises (ports/cache.py). A new adapter adds a parameter below."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from moonpool.adapters.cache.memory import MemoryCache
from moonpool.adapters.cache.redis import RedisCache
from moonpool.adapters.redis.address import parse_address
from moonpool.core.errors import MoonpoolError, Unavailable
from moonpool.ports.cache import Cache

SHORT = 0.05


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    cache: Cache = MemoryCache()
    if request.param == "redis":
        cache = RedisCache(parse_address(request.getfixturevalue("redis_url")))
    await cache.start()
    yield cache
    await cache.stop()


async def test_get_gives_what_was_set(cache: Cache) -> None:
    assert await cache.get("k") is None
    await cache.set("k", b"\x00\xffv", ttl=60)
    assert await cache.get("k") == b"\x00\xffv"
    await cache.set("k", b"", ttl=60)
    assert await cache.get("k") == b""


async def test_entries_expire(cache: Cache) -> None:
    await cache.set("k", b"v", ttl=SHORT)
    await asyncio.sleep(2 * SHORT)
    assert await cache.get("k") is None
    assert await cache.add("k", b"w", ttl=60)


async def test_setting_again_begins_a_new_life(cache: Cache) -> None:
    await cache.set("k", b"v", ttl=SHORT)
    await cache.set("k", b"w", ttl=60)
    await asyncio.sleep(2 * SHORT)
    assert await cache.get("k") == b"w"


async def test_a_ttl_of_nothing_keeps_nothing(cache: Cache) -> None:
    await cache.set("k", b"v", ttl=60)
    await cache.set("k", b"w", ttl=0)
    assert await cache.get("k") is None


async def test_add_only_sets_what_is_absent(cache: Cache) -> None:
    assert await cache.add("k", b"one", ttl=60)
    assert not await cache.add("k", b"two", ttl=60)
    assert await cache.get("k") == b"one"


async def test_add_is_atomic(cache: Cache) -> None:
    won = await asyncio.gather(*(cache.add("k", str(n).encode(), ttl=60) for n in range(50)))
    assert sum(won) == 1
    assert await cache.get("k") == str(won.index(True)).encode()


async def test_delete(cache: Cache) -> None:
    await cache.set("k", b"v", ttl=60)
    await cache.delete("k")
    await cache.delete("k")
    assert await cache.get("k") is None


async def test_increment_begins_at_nothing(cache: Cache) -> None:
    assert await cache.increment("n", ttl=60) == 1
    assert await cache.increment("n", 5, ttl=60) == 6
    assert await cache.increment("n", -10, ttl=60) == -4
    assert await cache.get("n") == b"-4"


async def test_increment_is_atomic(cache: Cache) -> None:
    values = await asyncio.gather(*(cache.increment("n", ttl=60) for _ in range(100)))
    assert sorted(values) == list(range(1, 101))


async def test_a_counter_lives_from_its_creation(cache: Cache) -> None:
    await cache.increment("n", ttl=10 * SHORT)
    assert await cache.increment("n", ttl=60) == 2
    await asyncio.sleep(11 * SHORT)
    assert await cache.increment("n", ttl=60) == 1


async def test_what_is_no_counter_cannot_be_incremented(cache: Cache) -> None:
    await cache.set("k", b"text", ttl=60)
    with pytest.raises(MoonpoolError):
        await cache.increment("k", ttl=60)
    assert await cache.get("k") == b"text"


async def test_ping(cache: Cache) -> None:
    await cache.ping()


async def test_after_stop_it_is_unavailable(cache: Cache) -> None:
    await cache.stop()
    for call in (cache.get("k"), cache.set("k", b"", ttl=1), cache.add("k", b"", ttl=1), cache.ping()):
        with pytest.raises(Unavailable):
            await call
    for call in (cache.delete("k"), cache.increment("k", ttl=1)):
        with pytest.raises(Unavailable):
            await call
