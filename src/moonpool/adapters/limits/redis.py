"""Limits that many gateways share in a Redis. Implements ports.limits.Limits.

    take     one script, one round trip, by the store's own time
    settle   told at once, not waited for; kept and told again when the store does not answer
    use      told once a second
    away     the local share (share.py); no request waits longer than the time-out for finding out

Leases live for LEASE seconds in the store and are renewed from here, so what a killed gateway held comes
back; a store that has lost its memory hears again what is held. What was given out by the local share is
settled there.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from functools import partial
from secrets import token_hex

import structlog

from moonpool.adapters.limits.held import (
    BEAT,
    PREFIX,
    RENEW,
    TAKE,
    TELL,
    Held,
    read_verdict,
    take_words,
)
from moonpool.adapters.limits.share import LocalShare
from moonpool.adapters.redis.address import Address
from moonpool.adapters.redis.link import Link
from moonpool.adapters.redis.wire import Answer, Refused, Wire
from moonpool.core.clock import SYSTEM_CLOCK, Clock
from moonpool.core.errors import Unavailable
from moonpool.ports.limits import Rate, Slot, Verdict

TIMEOUT = 0.1
"""Seconds that one request waits for a store that hangs. Where there is seven times more work than cores, a
Redis that is well is late by 50 ms now and then, and for each such mistake shares are given out beside it."""
LEASE = 15.0
RENEW_EVERY = 5.0
TICK = 1.0
PRESENT = 15.0
"""Seconds for which a gateway that says nothing counts among those that share."""
BEAT_EVERY = 5.0
MOST_DUE = 65_536
"""Leases whose end the store has not heard of yet."""
AT_ONCE = 500
"""Leases told of between two turns of the event loop."""
GATEWAYS = f"{PREFIX}gateways"
GIVE_UP = 3
"""Times that the store may refuse to hear of one lease."""


class RedisLimits:
    """`gateways` is how many there are at least. `store_clock` replaces the store's own time (tests)."""

    def __init__(
        self,
        address: Address,
        *,
        gateways: int = 1,
        clock: Clock = SYSTEM_CLOCK,
        store_clock: Clock | None = None,
        timeout: float = TIMEOUT,
        lease_seconds: float = LEASE,
    ) -> None:
        self._link = Link(
            address,
            use="limits",
            meanwhile="limits are kept by a local share",
            timeout=timeout,
            prepare=self._prepare,
        )
        self._share = LocalShare(clock)
        self._monotonic = clock.monotonic
        self._store_clock = store_clock
        self._lease_seconds = lease_seconds
        self._renew_every = lease_seconds * RENEW_EVERY / LEASE
        self._name = token_hex(8)
        self._fewest = gateways
        self._leases: dict[str, Held] = {}
        self._progress: dict[str, Held] = {}
        """Used more than the store knows, and not over."""
        self._due: dict[str, Held] = {}
        """Over, or used more, and could not be told: in the order of telling."""
        self._beat_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger()
        self.gateways = gateways
        """How many share, as far as known."""

    async def start(self) -> None:
        await self._link.start()
        self._task = asyncio.create_task(self._keep_telling(), name="limits")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            for held in list(self._leases.values()):
                self.settle(held, held.used)
            with contextlib.suppress(Unavailable):
                self._link.send("ZREM", GATEWAYS, self._name).add_done_callback(_overlook)
                await self.flush()
        await self._link.stop()

    async def ping(self) -> None:
        await self._link.send("PING")

    @property
    def shared(self) -> bool:
        return self._link.up

    @property
    def leases(self) -> int:
        """How many are not settled, here and in the store."""
        return len(self._leases) + self._share.leases

    @property
    def due(self) -> int:
        """Of how many the store has to be told yet."""
        return len(self._due)

    async def flush(self) -> None:
        """Until the store knows all that it can be told now. Raises Unavailable."""
        self._tell_due()
        self._tell_progress()
        await self._link.send("PING")  # answers come in order

    def take(
        self,
        lease: str,
        units: Sequence[Rate],
        slots: Sequence[Slot],
        reserves: Sequence[Rate] = (),
        amount: int = 0,
    ) -> Verdict | Awaitable[Verdict]:
        if not (units or slots or reserves):
            return Verdict(lease, None, 0.0, None, 0, 0.0)
        words = take_words(lease, self._now(), self._lease_seconds, units, slots, reserves, amount)
        try:
            answer = self._link.send(*words)
        except Unavailable:
            return self._share.take(self.gateways, lease, units, slots, reserves, amount)
        return self._taken(answer, lease, units, slots, reserves, amount)

    def use(self, held: Verdict, used: int) -> None:
        if not isinstance(held, Held):
            self._share.use(held, used)
        elif used > held.used and not held.over:
            held.used = used
            self._progress[held.lease] = held

    def settle(self, held: Verdict, used: int) -> None:
        if not isinstance(held, Held):
            self._share.settle(held, used)
        elif self._leases.pop(held.lease, None) is not None:
            held.used = used
            self._end(held)

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    def _now(self) -> str:
        return "" if self._store_clock is None else repr(self._store_clock.monotonic())

    async def _taken(
        self,
        answer: Answer,
        lease: str,
        units: Sequence[Rate],
        slots: Sequence[Slot],
        reserves: Sequence[Rate],
        amount: int,
    ) -> Verdict:
        asked = self._monotonic()
        try:
            reply = await answer
        except BaseException as error:
            if isinstance(error, Refused):  # it has lost its scripts, is full, is read-only, …
                self._link.drop(error.message)
            else:  # it may have granted this: then nobody holds it
                self._end(Held(lease, None, 0.0, None, 0, 0.0, slots, reserves, amount, 0.0, unsure=True))
            if isinstance(error, Unavailable):
                return self._share.take(self.gateways, lease, units, slots, reserves, amount)
            raise
        renew_at = asked + self._renew_every
        verdict = read_verdict(reply, lease, units, slots, reserves, amount, renew_at)
        if isinstance(verdict, Held) and (slots or reserves):
            self._leases[lease] = verdict
        return verdict

    def _end(self, held: Held) -> None:
        held.over = True
        self._progress.pop(held.lease, None)
        if held.lease in self._due:  # what waits there is told as it is by then
            return
        self._tell(held)

    def _tell(self, held: Held) -> None:
        before = held.told
        try:
            answer = self._link.send(*held.told_words(self._now(), self._lease_seconds))
        except Unavailable:
            self._keep(held)
            return
        held.told = held.used
        answer.add_done_callback(partial(self._heard, held, before, held.over))

    def _heard(self, held: Held, before: int, over: bool, answer: Answer) -> None:
        """What was told has arrived, or has to be told again."""
        error = answer.exception()
        if error is None:
            held.unsure = False
            return
        if isinstance(error, Refused):
            held.told = before
            held.failures += 1
            if held.failures >= GIVE_UP:
                self._log.error("use not counted", lease=held.lease, used=held.used, reason=error.message)
                return
            self._link.drop(error.message)
        else:
            held.unsure = True
        if over or not held.over:  # else its end was told behind this
            self._keep(held)

    def _keep(self, held: Held) -> None:
        self._due[held.lease] = held
        if len(self._due) > MOST_DUE:
            lost = self._due.pop(next(iter(self._due)))
            self._log.error("use not counted", lease=lost.lease, used=lost.used, reason="too many wait")

    def _tell_due(self) -> None:
        """As many as go into one turn."""
        for lease in list(self._due)[:AT_ONCE]:
            if not self._link.up:
                return
            self._tell(self._due.pop(lease))

    def _tell_progress(self) -> None:
        progress, self._progress = self._progress, {}
        for held in progress.values():
            if held.lease not in self._due:
                self._tell(held)

    async def _prepare(self, wire: Wire) -> None:
        for script in (TAKE, TELL, RENEW, BEAT):
            await script.load(wire)
        await self._beat(wire)
        for held in self._leases.values():
            held.renew_at = 0.0  # it may have lost its memory

    async def _beat(self, by: Wire | Link) -> None:
        """Say that we are here, and hear how many are."""
        count = await by.send(*BEAT.words((GATEWAYS,), (self._name, PRESENT)))
        assert isinstance(count, int)
        self.gateways = max(count, self._fewest)
        self._beat_at = self._monotonic() + BEAT_EVERY

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            try:
                while self._due and self._link.up:
                    self._tell_due()
                    await asyncio.sleep(0)
                self._tell_progress()
                if self._link.up:
                    await self._renew()
                if self._link.up and self._monotonic() >= self._beat_at:
                    await self._beat(self._link)
            except Unavailable as error:
                self._log.debug("limits not told", reason=error.message)

    async def _renew(self) -> None:
        now = self._monotonic()
        late = [held for held in self._leases.values() if held.renew_at <= now]
        for number, held in enumerate(late, start=1):
            if held.lease in self._leases:  # not settled meanwhile
                held.renew_at = now + self._renew_every
                answer = self._link.send(*held.renewing_words(self._now(), self._lease_seconds))
                answer.add_done_callback(_overlook)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)


def _overlook(answer: Answer) -> None:
    """What fails here is made good by the next one, or by time."""
    answer.exception()
