"""Limits in the memory of one process. Implements ports.limits.Limits.

On the way of every request, hence written for speed: the arithmetic of gcra.py stands inline, and what
was taken is put back when something later refuses, which is rarer than taking. Every operation is one step
of the event loop, so all are atomic without a lock.

Bounded: a bucket that is full again is as good as none, and is swept out within two minutes.
"""

import math
from collections.abc import Sequence

from moonpool.adapters.limits.gcra import ahead_of, remaining, wait_for
from moonpool.core.clock import SYSTEM_CLOCK, Clock
from moonpool.core.errors import Unavailable
from moonpool.ports.limits import WINDOW, Rate, Slot, Verdict

LEASE_SECONDS = 2 * 3600.0
"""Longer than any request. In one process every lease is settled by the body that holds it; this bounds what
a fault in that could do."""
SLOT_WAIT = 1.0
"""Seconds. Nobody knows when a place will be free."""


class _Held(Verdict, gc=False):
    """What one lease holds: `left` of the reservation is not used yet, `used` was charged."""

    expires: float
    slots: Sequence[Slot]
    reserves: Sequence[Rate]
    left: int
    used: int


class MemoryLimits:
    def __init__(self, clock: Clock = SYSTEM_CLOCK, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._clock = clock
        self._monotonic = clock.monotonic
        self._lease_seconds = lease_seconds
        self._tats: dict[str, float] = {}
        self._reserved: dict[str, int] = {}
        self._places: dict[str, int] = {}
        self._leases: dict[str, _Held] = {}
        """In order of their expiry, since all live equally long."""
        self._tidy_at = 0.0
        self._open = False

    async def start(self) -> None:
        self._open = True

    async def stop(self) -> None:
        self._open = False

    async def ping(self) -> None:
        if not self._open:
            raise Unavailable("the limits are closed", retry_after=1.0)

    @property
    def shared(self) -> bool:
        """This process is all there is."""
        return True

    @property
    def leases(self) -> int:
        """How many are not settled."""
        return len(self._leases)

    @property
    def buckets(self) -> int:
        """How many are remembered."""
        return len(self._tats)

    def places(self, key: str) -> int:
        """Places held under `key`."""
        return self._places.get(key, 0)

    def reserved(self, key: str) -> int:
        """Units reserved under `key` and not used yet."""
        return self._reserved.get(key, 0)

    def take(
        self,
        lease: str,
        units: Sequence[Rate],
        slots: Sequence[Slot],
        reserves: Sequence[Rate] = (),
        amount: int = 0,
    ) -> Verdict:
        now = self._monotonic()
        if now >= self._tidy_at:
            self._tidy(now)
        places, tats = self._places, self._tats
        for slot in slots:
            if places.get(slot.key, 0) >= slot.places:
                return Verdict(lease, slot, SLOT_WAIT, None, 0, 0.0)
        tightest, fullest, furthest = None, -1.0, 0.0
        for rate in reserves:
            tat = tats.get(rate.key, 0.0)
            wanted = (self._reserved.get(rate.key, 0) + amount) * rate.interval
            ahead = tat - now + wanted if tat > now else wanted
            if ahead > rate.tolerance:
                return self._refuse(lease, rate, amount, now)
            if ahead / rate.tolerance > fullest:
                tightest, fullest, furthest = rate, ahead / rate.tolerance, ahead
        for rate in units:
            tat = tats.get(rate.key, 0.0)
            ahead = tat - now + rate.interval if tat > now else rate.interval
            if ahead > rate.tolerance:
                self._put_back(units, rate)
                return self._refuse(lease, rate, 1, now)
            tats[rate.key] = now + ahead
            if ahead / rate.tolerance > fullest:
                tightest, fullest, furthest = rate, ahead / rate.tolerance, ahead
        for rate in reserves:
            self._reserved[rate.key] = self._reserved.get(rate.key, 0) + amount
        for slot in slots:
            places[slot.key] = places.get(slot.key, 0) + 1
        left = int((tightest.tolerance - furthest) / tightest.interval) if tightest is not None else 0
        expires = now + self._lease_seconds
        held = _Held(lease, None, 0.0, tightest, left, furthest, expires, slots, reserves, amount, 0)
        self._leases[lease] = held
        return held

    def use(self, held: Verdict, used: int) -> None:
        lease = self._leases.get(held.lease)
        if lease is None or used <= lease.used:
            return
        more, lease.used = used - lease.used, used
        freed = min(more, lease.left)
        lease.left -= freed
        self._charge(lease.reserves, more, freed)

    def settle(self, held: Verdict, used: int) -> None:
        lease = self._leases.pop(held.lease, None)
        if lease is None:
            return
        if lease.reserves:
            self._charge(lease.reserves, used - lease.used, lease.left)
        for slot in lease.slots:
            self._places[slot.key] -= 1

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    def _charge(self, rates: Sequence[Rate], units: int, freed: int) -> None:
        """`units` were used (fewer than none where progress was overestimated); `freed` are not reserved
        any more."""
        now = self._monotonic()
        tats, reserved = self._tats, self._reserved
        for rate in rates:
            key = rate.key
            tat = tats.get(key, 0.0)
            tats[key] = (tat if tat > now else now) + rate.interval * units
            reserved[key] -= freed

    def _put_back(self, units: Sequence[Rate], refused: Rate) -> None:
        """What stands before `refused` was taken a moment ago."""
        for rate in units:
            if rate is refused:
                return
            self._tats[rate.key] -= rate.interval

    def _refuse(self, lease: str, rate: Rate, amount: int, now: float) -> Verdict:
        ahead = ahead_of(self._tats.get(rate.key, 0.0), now, rate, self._reserved.get(rate.key, 0))
        wait = wait_for(ahead, rate, amount)
        reset = ahead if wait == math.inf else wait
        return Verdict(lease, rate, wait, rate, remaining(ahead, rate), reset)

    def _tidy(self, now: float) -> None:
        """Once a minute: give back the leases that nobody settled (what they used is known as far as `use`
        told), and forget what is full, free or empty again."""
        self._tidy_at = now + WINDOW
        for held in list(self._leases.values()):
            if held.expires > now:
                break
            self.settle(held, held.used)
        self._tats = {key: tat for key, tat in self._tats.items() if tat > now}
        under_way = {rate.key for held in self._leases.values() for rate in held.reserves}
        self._reserved = {key: amount for key, amount in self._reserved.items() if key in under_way}
        self._places = {key: count for key, count in self._places.items() if count}
