"""A cache that many processes share in a Redis. Implements ports.cache.Cache.

Expiry is the store's own. While it is away everything raises Unavailable at once: who looks for an answer
takes that as a miss, and who must know (a claim) hears that nobody knows. That it is away is logged once.
"""

from pathlib import Path

from moonpool.adapters.redis.address import Address
from moonpool.adapters.redis.link import Link
from moonpool.adapters.redis.script import Script
from moonpool.adapters.redis.wire import Refused, Reply, Wire, Word
from moonpool.core.errors import InternalError, Unavailable

PREFIX = b"mp:cache:"
TIMEOUT = 0.25
"""Seconds. An answer of megabytes takes longer than a look at a limit."""
LARGEST = 16 * 1024 * 1024
"""Bytes of a value. Above the largest that is kept on purpose; it bounds how long others wait behind it."""
INCREMENT = Script(Path(__file__).parent / "increment.lua")


class RedisCache:
    """`at_once`: connected by `start`; else when it is needed first, for those that may never need it."""

    def __init__(self, address: Address, *, timeout: float = TIMEOUT, at_once: bool = True) -> None:
        self._at_once = at_once
        self._open = False
        self._link = Link(
            address,
            use="cache",
            meanwhile="nothing is found in the cache",
            timeout=timeout,
            prepare=_prepare,
        )

    async def start(self) -> None:
        self._open = True
        if self._at_once:
            await self._link.start()

    async def stop(self) -> None:
        self._open = False
        await self._link.stop()

    async def get(self, key: str) -> bytes | None:
        value = await self._ask(b"GET", _key(key))
        assert value is None or isinstance(value, bytes)
        return value

    async def set(self, key: str, value: bytes, *, ttl: float) -> None:
        _check_size(value)
        if ttl > 0:
            await self._ask(b"SET", _key(key), value, b"PX", _milliseconds(ttl))
        else:
            await self.delete(key)

    async def add(self, key: str, value: bytes, *, ttl: float) -> bool:
        _check_size(value)
        if ttl <= 0:
            return not await self._ask(b"EXISTS", _key(key))
        return await self._ask(b"SET", _key(key), value, b"PX", _milliseconds(ttl), b"NX") is not None

    async def delete(self, key: str) -> None:
        await self._ask(b"DEL", _key(key))

    async def increment(self, key: str, by: int = 1, *, ttl: float) -> int:
        words: tuple[Word, ...] = INCREMENT.words((_key(key),), (by, _milliseconds(ttl)))
        try:
            reply: Reply = await self._ask(*words)
        except Refused as error:
            if "not an integer" in error.message:
                raise InternalError("The cache entry is not a counter.") from error
            if "NOSCRIPT" in error.message:
                self._link.drop(error.message)
            raise
        assert isinstance(reply, int)
        return reply

    async def ping(self) -> None:
        await self._ask(b"PING")

    async def _ask(self, *words: Word) -> Reply:
        if self._open and not self._link.known:
            await self._link.start()
        return await self._link.send(*words)


async def _prepare(wire: Wire) -> None:
    await INCREMENT.load(wire)


def _key(key: str) -> bytes:
    return PREFIX + key.encode("utf-8", "surrogatepass")


def _milliseconds(ttl: float) -> int:
    return max(round(ttl * 1000), 1)


def _check_size(value: bytes) -> None:
    if len(value) > LARGEST:
        raise Unavailable("The value is larger than the cache takes.")
