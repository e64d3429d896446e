"""Counts each release's requests for the upgrade manager, and tells it once a second while an upgrade runs.

On the way of a request it is two calls of a few additions each, and nothing at all while no upgrade runs.
The counts are plain numbers, touched in the event loop only; reports of several gateways add up.
"""

import asyncio
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.contracts.money import cost
from moonpool.contracts.release_stats import (
    BOUNDS,
    BUCKETS,
    TOPIC,
    ReleaseCounts,
    ReleaseReport,
    Times,
    middle,
)
from moonpool.contracts.usage import TokenPrice
from moonpool.core.body import Outcome
from moonpool.core.clock import Clock
from moonpool.core.context import Attempt, Context
from moonpool.core.errors import MoonpoolError
from moonpool.core.ids import new_id
from moonpool.ports.events import Event, EventLog

_COMPLETED = Outcome.COMPLETED
INTERVAL = 1.0
"""Seconds between two reports."""


class _Arm:
    """One release's numbers since the last report."""

    __slots__ = (
        "cost",
        "ended",
        "errors",
        "first",
        "first_sum",
        "gaps",
        "gaps_sum",
        "left",
        "mirrored",
        "priced",
        "priced_tokens",
        "seconds",
        "seconds_sum",
        "started",
        "tokens",
    )

    def __init__(self) -> None:
        self.started = self.ended = self.errors = self.left = self.mirrored = 0
        self.tokens = self.priced = self.priced_tokens = self.cost = 0
        self.seconds, self.first, self.gaps = [0] * BUCKETS, [0] * BUCKETS, [0] * BUCKETS
        self.seconds_sum = self.first_sum = self.gaps_sum = 0.0

    def streamed(self, first: float, gap: float | None) -> None:
        self.first[bisect_left(BOUNDS, first)] += 1
        self.first_sum += first
        if gap is not None:
            self.gaps[bisect_left(BOUNDS, gap)] += 1
            self.gaps_sum += gap

    def told(self, service: str, release: str) -> ReleaseCounts:
        return ReleaseCounts(
            service=service,
            release=release,
            started=self.started,
            ended=self.ended,
            errors=self.errors,
            left=self.left,
            mirrored=self.mirrored,
            tokens=self.tokens,
            priced=self.priced,
            priced_tokens=self.priced_tokens,
            cost=self.cost,
            seconds=_times(self.seconds, self.seconds_sum),
            first=_times(self.first, self.first_sum),
            gaps=_times(self.gaps, self.gaps_sum),
        )


def _times(cells: list[int], total: float) -> Times:
    """The logarithms are those of the buckets' middles: within 9 % of each time, and cheaper than its own."""
    found = {index: number for index, number in enumerate(cells) if number}
    logs = [(number, math.log(middle(index))) for index, number in found.items()]
    return Times(
        count=sum(found.values()),
        sum=total,
        logs=sum(number * log for number, log in logs),
        squares=sum(number * log * log for number, log in logs),
        cells=found,
    )


def charged(ctx: Context, answered: Attempt) -> TokenPrice | None:
    """What the client pays for the answer: the price of its alias. None: it has none."""
    price: TokenPrice | None = None if ctx.tariff is None else ctx.tariff.prices.get(ctx.model)
    return price


class ReleaseStats:
    """`followed` gives the versions of the routing documents by service, empty while no upgrade runs:
    then nothing is counted and nothing told. `capped` is the version router's `take_capped`, `price` is
    what tokens of an answer cost (None: not known). `name` is the gateway's instance, unique among all."""

    def __init__(
        self,
        name: str,
        events: EventLog,
        clock: Clock,
        log: FilteringBoundLogger,
        followed: Callable[[], Mapping[str, int]],
        capped: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._name = name
        self._events = events
        self._clock = clock
        self._log = log
        self._followed = followed
        self.capped = capped
        self.price: Callable[[Context, Attempt], TokenPrice | None] = charged
        self._arms: dict[tuple[str, str], _Arm] = {}
        self._sequence = 0
        self._since = clock.monotonic()
        self._task: asyncio.Task[None] | None = None
        self.counting = False

    # ── on the way of a request ──────────────────────────────────────────────────────────────────

    def started(self, service: str, release: str) -> None:
        """The router has sent a request to that release."""
        if self.counting:
            (self._arms.get((service, release)) or self._arm(service, release)).started += 1

    def ended(
        self,
        ctx: Context,
        outcome: Outcome,
        first: float | None = None,
        last: float = 0.0,
        chunks: int = 0,
        mirrored: bool = False,
    ) -> None:
        """A request is over, body included. Times are monotonic; `first`, `last` and `chunks` of a streamed
        answer. Written for speed: it runs for every request while an upgrade does."""
        if not self.counting:
            return
        attempts = ctx.attempts
        if not attempts:
            return
        service = ctx.service
        if len(attempts) > 1:
            self._failed(service, attempts[:-1])
        answered = attempts[-1]
        release = answered.release
        arm = self._arms.get((service, release)) or self._arm(service, release)
        arm.ended += 1
        if mirrored:
            arm.mirrored += 1
        if outcome is not _COMPLETED or (answered.status or 500) >= 500:
            if outcome is Outcome.CANCELLED:
                arm.left += 1
            else:
                arm.errors += 1
            return
        began = answered.started
        seconds = (last or answered.ended or ctx.clock.monotonic()) - began
        arm.seconds[bisect_left(BOUNDS, seconds)] += 1
        arm.seconds_sum += seconds
        if first is not None:
            arm.streamed(first - began, (last - first) / (chunks - 1) if chunks > 1 else None)
        usage = ctx.usage
        if usage is not None:
            tokens = usage.prompt_tokens + usage.completion_tokens
            arm.tokens += tokens
            price = self.price(ctx, answered)
            if price is not None:
                arm.priced += 1
                arm.priced_tokens += tokens
                arm.cost += cost(usage, price)

    def _failed(self, service: str, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            arm = self._arm(service, attempt.release)
            arm.ended += 1
            arm.errors += 1

    def _arm(self, service: str, release: str) -> _Arm:
        key = (service, release)
        arm = self._arms.get(key)
        if arm is None:
            arm = self._arms[key] = _Arm()
        return arm

    # ── telling ──────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="release stats")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self.counting:
            await self._tell()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self.report()
            except Exception as error:  # noqa: BLE001 - the task's boundary: telling must go on
                self._log.error("release statistics are lost", exc_info=error)

    async def report(self) -> None:
        """Tell what was counted since the last time, and whether to go on counting."""
        wanted = bool(self._followed())
        if wanted or self.counting:
            await self._tell()
        self.counting = wanted

    async def _tell(self) -> None:
        now = self._clock.monotonic()
        arms, self._arms = self._arms, {}
        self._sequence += 1
        report = ReleaseReport(
            gateway=self._name,
            sequence=self._sequence,
            at=self._clock.time(),
            seconds=now - self._since,
            counts=[arm.told(service, release) for (service, release), arm in arms.items()],
            routing=dict(self._followed()),
            capped=list(self.capped()),
        )
        self._since = now
        try:
            event = Event(new_id("rst", self._clock), self._name, msgspec.json.encode(report))
            await self._events.append(TOPIC, [event])
        except MoonpoolError as error:  # the next report has fewer numbers, and the comparison less to go by
            self._log.warning("release statistics not told", reason=error.detail)
