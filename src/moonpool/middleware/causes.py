"""Why something else than the real answer was given, counted so that what recurs can be ranked. Pure.

    kind (stale, service, degraded, dead_letter, failover …) x service x route x cause

`recent` is a count that halves every HALF_LIFE: it ranks, so that yesterday's outage does not hide today's.
"""

import math
from typing import NamedTuple

import msgspec

from moonpool.core.clock import Clock

HALF_LIFE = 600.0
"""Seconds."""
CAPACITY = 1_000
"""Different causes held; beyond that the least recent goes."""


class Cause(NamedTuple):
    kind: str
    service: str
    route: str
    cause: str


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """Times are Unix seconds; `request_id` is the last one's, for `moonpool explain`."""

    kind: str
    service: str
    route: str
    cause: str
    count: int
    recent: float
    first_at: float
    last_at: float
    request_id: str
    message: str


class _Count:
    __slots__ = ("at", "count", "first_at", "last_at", "message", "recent", "request_id")

    def __init__(self, now: float, wall: float) -> None:
        self.at = now
        self.recent = 0.0
        self.count = 0
        self.first_at = wall
        self.last_at = wall
        self.request_id = ""
        self.message = ""

    def decayed(self, now: float) -> float:
        return self.recent * math.exp2(-max(0.0, now - self.at) / HALF_LIFE)


class Causes:
    """Of one process; touched in the event loop only."""

    def __init__(self, clock: Clock, *, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._capacity = capacity
        self._counts: dict[Cause, _Count] = {}

    def note(self, cause: Cause, *, request_id: str = "", message: str = "") -> None:
        now = self._clock.monotonic()
        count = self._counts.pop(cause, None)
        if count is None:
            count = _Count(now, self._clock.time())
            if len(self._counts) >= self._capacity:
                del self._counts[next(iter(self._counts))]
        self._counts[cause] = count  # at the end: the order is that of the last time
        count.recent = count.decayed(now) + 1.0
        count.at = now
        count.count += 1
        count.last_at = self._clock.time()
        count.request_id = request_id
        count.message = message

    def top(self, limit: int = 20, *, kind: str = "", service: str = "") -> list[Ranked]:
        """The most frequent of late first."""
        now = self._clock.monotonic()
        found = [
            Ranked(
                kind=cause.kind,
                service=cause.service,
                route=cause.route,
                cause=cause.cause,
                count=count.count,
                recent=round(count.decayed(now), 3),
                first_at=count.first_at,
                last_at=count.last_at,
                request_id=count.request_id,
                message=count.message,
            )
            for cause, count in self._counts.items()
            if kind in {"", cause.kind} and service in {"", cause.service}
        ]
        found.sort(key=lambda each: (-each.recent, -each.count, each.route, each.cause, each.kind))
        return found[:limit]

    def totals(self) -> dict[tuple[str, str, str], int]:
        """Counts by (kind, service, cause), for metrics."""
        totals: dict[tuple[str, str, str], int] = {}
        for cause, count in self._counts.items():
            key = (cause.kind, cause.service, cause.cause)
            totals[key] = totals.get(key, 0) + count.count
        return totals
