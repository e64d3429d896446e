"""Bounds and time of the memory cache."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.adapters.cache.memory import MemoryCache
from moonpool.core.clock import ManualClock
from moonpool.core.errors import Unavailable


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def cache(clock: ManualClock) -> MemoryCache:
    cache = MemoryCache(max_entries=3, max_bytes=10_000, clock=clock)
    await cache.start()
    return cache


async def test_the_least_recently_used_goes_first(cache: MemoryCache) -> None:
    for key in "abc":
        await cache.set(key, b"v", ttl=60)
    await cache.get("a")
    await cache.set("d", b"v", ttl=60)
    assert [key for key in "abcd" if await cache.get(key)] == ["a", "c", "d"]


async def test_what_has_expired_goes_before_what_is_alive(cache: MemoryCache, clock: ManualClock) -> None:
    await cache.set("alive", b"v", ttl=60)
    await cache.set("b", b"v", ttl=1)
    await cache.set("c", b"v", ttl=1)
    clock.advance(2)
    await cache.set("d", b"v", ttl=60)
    assert await cache.get("alive")
    assert cache.entry_count == 2


async def test_bytes_are_bounded(cache: MemoryCache) -> None:
    for key in "abc":
        await cache.set(key, b"x" * 4000, ttl=60)
    assert cache.byte_count <= 10_000
    assert await cache.get("a") is None
    assert await cache.get("c") is not None


async def test_too_large_a_value_is_refused_and_drives_nothing_out(cache: MemoryCache) -> None:
    await cache.set("a", b"v", ttl=60)
    await cache.set("b", b"v", ttl=60)
    with pytest.raises(Unavailable):
        await cache.set("b", b"x" * 10_000, ttl=60)
    assert await cache.get("a") == b"v"
    assert await cache.get("b") is None, "an older value must not pass for the newer one"


async def test_the_moment_of_expiry(cache: MemoryCache, clock: ManualClock) -> None:
    await cache.set("k", b"v", ttl=10)
    clock.advance(9.999)
    assert await cache.get("k") == b"v"
    clock.advance(0.001)
    assert await cache.get("k") is None
    assert cache.byte_count == 0


async def test_replacing_for_ever_needs_no_more_memory(cache: MemoryCache) -> None:
    for _ in range(5000):
        await cache.set("k", b"v", ttl=60)
    assert len(cache._expiries) < 200


Operations = st.lists(
    st.tuples(
        st.sampled_from(["set", "add", "delete", "get"]),
        st.sampled_from("abcdef"),
        st.integers(0, 4000),
        st.integers(0, 3),
    )
)


@given(Operations)
async def test_the_books_are_always_right(operations: list[tuple[str, str, int, int]]) -> None:
    clock = ManualClock()
    cache = MemoryCache(max_entries=4, max_bytes=10_000, clock=clock)
    await cache.start()
    for what, key, size, ttl in operations:
        if what == "set":
            await cache.set(key, b"x" * size, ttl=ttl)
        elif what == "add":
            await cache.add(key, b"x" * size, ttl=ttl)
        elif what == "delete":
            await cache.delete(key)
        else:
            await cache.get(key)
        clock.advance(0.5)
        assert cache.entry_count <= 4
        assert cache.byte_count <= 10_000
        assert cache.byte_count == sum(entry.size for entry in cache._entries.values())
