"""Bounds failed attempts to authenticate, by address, so that keys cannot be guessed at speed.

GCRA, as in the rate limiter: an address may fail `BURST` times at once and `RATE` times a minute after
that. Only callers without a known key are ever stopped: others behind the same address are not.
"""

from collections import OrderedDict

from moonpool.core.clock import Clock

RATE = 30
BURST = 30
CAPACITY = 10_000
"""Addresses remembered."""
_ROUNDING = 1e-6
"""Seconds that sums of floats may be off."""


class FailedAttempts:
    def __init__(self, clock: Clock, *, per_minute: int = RATE, burst: int = BURST) -> None:
        self._clock = clock
        self._interval = 60.0 / per_minute
        self._tolerance = self._interval * burst
        self._arrival: OrderedDict[str, float] = OrderedDict()

    def failed(self, address: str) -> None:
        now = self._clock.monotonic()
        self._arrival[address] = max(self._arrival.get(address, now), now) + self._interval
        self._arrival.move_to_end(address)
        while len(self._arrival) > CAPACITY:
            self._arrival.popitem(last=False)

    def blocked(self, address: str) -> float | None:
        """Seconds until the next attempt is allowed, or None when it is now."""
        ahead = self._arrival.get(address, 0.0) - self._clock.monotonic()
        wait = ahead + self._interval - self._tolerance
        return wait if wait > _ROUNDING else None
