"""The cache beyond its contract: away, shared, large, connected late."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from harness.redis_server import RedisServer
from moonpool.adapters.cache.redis import LARGEST, TIMEOUT, RedisCache
from moonpool.adapters.redis.address import parse_address
from moonpool.core.errors import Unavailable


@pytest.fixture
async def cache(redis: RedisServer) -> AsyncIterator[RedisCache]:
    cache = RedisCache(parse_address(redis.url))
    await cache.start()
    yield cache
    await cache.stop()


async def test_a_claim_is_one_for_all(cache: RedisCache, redis: RedisServer) -> None:
    other = RedisCache(parse_address(redis.url))
    await other.start()
    try:
        won = await asyncio.gather(*(one.add("once:k", b"", ttl=60) for one in (cache, other) * 20))
        assert sum(won) == 1
        assert 59_000 < int(redis.ask("PTTL", "mp:cache:once:k")) <= 60_000
    finally:
        await other.stop()


async def test_away_is_unavailable_at_once_and_told_once(cache: RedisCache, redis: RedisServer) -> None:
    await cache.set("k", b"v", ttl=60)
    with capture_logs() as logs:
        redis.pause()
        try:
            with pytest.raises(Unavailable):
                await cache.get("k")
            began = time.monotonic()
            for _ in range(100):
                with pytest.raises(Unavailable):
                    await cache.get("k")
            assert time.monotonic() - began < 100 * TIMEOUT / 5, "they do not wait, now that it is known"
        finally:
            redis.resume()
        async with asyncio.timeout(10):
            while not cache._link.up:
                await asyncio.sleep(0.01)
    assert await cache.get("k") == b"v"
    assert [entry["event"] for entry in logs] == ["redis is away", "redis is back"]
    assert logs[1]["unanswered"] == 101


async def test_megabytes(cache: RedisCache) -> None:
    large = bytes(4 * 1024 * 1024)
    await cache.set("k", large, ttl=60)
    assert await cache.get("k") == large
    for call in (cache.set("k", bytes(LARGEST + 1), ttl=1), cache.add("l", bytes(LARGEST + 1), ttl=1)):
        with pytest.raises(Unavailable):
            await call


async def test_forgotten_scripts_are_loaded_again(cache: RedisCache, redis: RedisServer) -> None:
    redis.ask("SCRIPT", "FLUSH")
    with pytest.raises(Unavailable):
        await cache.increment("n", ttl=60)
    async with asyncio.timeout(10):
        while not cache._link.up:
            await asyncio.sleep(0.01)
    assert await cache.increment("n", ttl=60) == 1


async def test_who_never_asks_is_never_connected(redis: RedisServer) -> None:
    cache = RedisCache(parse_address(redis.url), at_once=False)
    await cache.start()
    try:
        assert not cache._link.known
        both = await asyncio.gather(cache.get("k"), cache.add("k", b"v", ttl=60))
        assert both == [None, True]
    finally:
        await cache.stop()
    with pytest.raises(Unavailable):
        await cache.get("k")


async def test_any_text_is_a_key(cache: RedisCache) -> None:
    await cache.set("ä\ud800\n ", b"v", ttl=60)
    assert await cache.get("ä\ud800\n ") == b"v"
