"""A cache in the memory of one process.

Bounded in entries and bytes: what has expired goes first, then what was used longest ago. Every
operation is one step of the event loop, so all are atomic without a lock. A platform with more than one
gateway process needs a shared cache instead.
"""

import heapq
from collections import OrderedDict
from typing import NamedTuple

from moonpool.core.clock import SYSTEM_CLOCK, Clock
from moonpool.core.errors import InternalError, Unavailable

_ENTRY_OVERHEAD = 350
"""About what CPython needs for an entry besides its key's and value's own bytes."""


class _Entry(NamedTuple):
    value: bytes
    expires: float
    size: int


class MemoryCache:
    """Implements ports.cache.Cache. `max_bytes` counts keys, values and what an entry costs."""

    def __init__(
        self,
        *,
        max_entries: int = 100_000,
        max_bytes: int = 64 * 1024 * 1024,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0
        self._expiries: list[tuple[float, str]] = []
        self._open = False

    async def start(self) -> None:
        self._open = True

    async def stop(self) -> None:
        self._open = False
        self._entries.clear()
        self._expiries.clear()
        self._bytes = 0

    @property
    def entry_count(self) -> int:
        return len(self._entries)

    @property
    def byte_count(self) -> int:
        return self._bytes

    async def get(self, key: str) -> bytes | None:
        entry = self._live(key)
        return None if entry is None else entry.value

    async def set(self, key: str, value: bytes, *, ttl: float) -> None:
        self._check_open()
        self._put(key, value, self._clock.monotonic() + ttl)

    async def add(self, key: str, value: bytes, *, ttl: float) -> bool:
        if self._live(key) is not None:
            return False
        self._put(key, value, self._clock.monotonic() + ttl)
        return True

    async def delete(self, key: str) -> None:
        self._check_open()
        self._drop(key)

    async def increment(self, key: str, by: int = 1, *, ttl: float) -> int:
        entry = self._live(key)
        if entry is None:
            value, expires = by, self._clock.monotonic() + ttl
        else:
            try:
                value, expires = int(entry.value) + by, entry.expires
            except ValueError as error:
                raise InternalError("The cache entry is not a counter.") from error
        self._put(key, str(value).encode(), expires)
        return value

    async def ping(self) -> None:
        self._check_open()

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    def _check_open(self) -> None:
        if not self._open:
            raise Unavailable("The cache is closed.", retry_after=1.0)

    def _live(self, key: str) -> _Entry | None:
        self._check_open()
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires <= self._clock.monotonic():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def _put(self, key: str, value: bytes, expires: float) -> None:
        size = len(key.encode("utf-8", "surrogatepass")) + len(value) + _ENTRY_OVERHEAD
        self._drop(key)
        if size > self._max_bytes:
            raise Unavailable("The value is larger than the whole cache.")
        if expires <= self._clock.monotonic():
            return
        self._make_room(size)
        self._entries[key] = _Entry(bytes(value), expires, size)
        self._bytes += size
        heapq.heappush(self._expiries, (expires, key))
        if len(self._expiries) > 2 * len(self._entries) + 64:
            # Most of the heap speaks of entries that were replaced since.
            self._expiries = [(entry.expires, key) for key, entry in self._entries.items()]
            heapq.heapify(self._expiries)

    def _make_room(self, size: int) -> None:
        now = self._clock.monotonic()
        while self._expiries and self._expiries[0][0] <= now:
            expires, key = heapq.heappop(self._expiries)
            entry = self._entries.get(key)
            if entry is not None and entry.expires == expires:
                self._drop(key)
        while self._entries and (
            len(self._entries) >= self._max_entries or self._bytes + size > self._max_bytes
        ):
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.size

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size
