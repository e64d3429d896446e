"""Who may have how much: rates, places and reservations, counted in one place for all replicas.

A `Rate` is a bucket by the generic cell rate algorithm (GCRA): `quota` units a minute, `burst` at once. A
`Slot` is a number of places, each held until it is given back. A lease is what one request holds:

    take(lease, …)  ──►  use(verdict, n) now and then  ──►  settle(verdict, total)

Units are gone when they are taken. A reservation only holds its amount: what was really used is charged
when `use` and `settle` tell of it, so that giving the rest back can never admit more than the quota.
"""

from collections.abc import Awaitable, Sequence
from typing import Protocol

import msgspec

WINDOW = 60.0
"""Seconds that quotas are for."""


class Rate:
    """`key` names the bucket, `name` the policy as clients see it. Whoever has the same key shares it."""

    __slots__ = ("burst", "field", "interval", "key", "name", "quota", "tolerance")

    def __init__(self, key: str, name: str, quota: int, burst: int) -> None:
        self.key = key
        self.name = name
        self.quota = quota
        self.burst = burst
        self.interval = WINDOW / quota
        """Seconds that one unit takes to come back."""
        self.tolerance = self.interval * (burst + 0.001)
        """How far ahead of the clock the bucket may run; the thousandth is for sums of floats."""
        self.field = b'"%s";r=%%d;t=%%d' % name.encode()
        """An item of the `RateLimit` header, to be given the remaining units and seconds to full."""


class Slot:
    """`places` that can be held at one time under `key`."""

    __slots__ = ("key", "name", "places")

    def __init__(self, key: str, name: str, places: int) -> None:
        self.key = key
        self.name = name
        self.places = places


class Verdict(msgspec.Struct, gc=False):
    """The answer to `take`, and the handle of what was given.

    `refused` is what stood in the way, with the seconds to `wait` (infinite: it can never be had).
    `tightest` is the rate that is nearest to its end, with its `remaining` units and the seconds until it
    is full again (`reset`; of a refused one: until it can be had); None when no rate was asked for.
    """

    lease: str
    refused: Rate | Slot | None
    wait: float
    tightest: Rate | None
    remaining: int
    reset: float


class Limits(Protocol):
    """Never raises while it runs: an adapter whose store is away decides by a local share, and says so
    in the log. Time is the store's own, so that replicas agree."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def ping(self) -> None:
        """Raises core.errors.Unavailable when the store is away."""

    @property
    def shared(self) -> bool:
        """Whether all that should count together do: not while a local share decides."""

    def take(
        self,
        lease: str,
        units: Sequence[Rate],
        slots: Sequence[Slot],
        reserves: Sequence[Rate] = (),
        amount: int = 0,
    ) -> Verdict | Awaitable[Verdict]:
        """Take one unit of each of `units`, hold a place in each of `slots` and `amount` of each of
        `reserves`: all of it, or nothing. Atomic, one round trip; at once where there is no trip to make.

        `lease` must not be in use; a bucket is for units or for reservations, never for both."""

    def use(self, held: Verdict, used: int) -> None:
        """`used` units of the reservation have been used by now, in total: charge what is new of them.

        What goes beyond the reservation is owed: those who come next wait for it."""

    def settle(self, held: Verdict, used: int) -> None:
        """It is over, and took `used` units in all: charge the rest, give back what is still held.

        Returns at once; refused and settled ones are passed over: it may be called twice. What a process
        holds when it is killed is given back by the store after a while."""
