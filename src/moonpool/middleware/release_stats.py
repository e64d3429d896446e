"""Counts each release's requests for the upgrade manager, and tells it once a second while an upgrade runs.

On the way of a request it is two calls of a few additions each, and nothing at all while no upgrade runs.
The counts are plain numbers, touched in the event loop only; reports of several gateways add up.
"""

import asyncio
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.contracts.release_stats import (
    BOUNDS,
    BUCKETS,
    TOPIC,
    ReleaseCounts,
    ReleaseReport,
    Times,
    middle,
)
from moonpool.core.body import Outcome
from moonpool.core.clock import Clock
from moonpool.core.context import Context
from moonpool.core.errors import MoonpoolError
from moonpool.core.ids import new_id
from moonpool.ports.events import Event, EventLog

INTERVAL = 1.0
"""Seconds between two reports."""


class _Arm:
    """One release's numbers since the last report."""

    __slots__ = (
        "ended",
        "errors",
        "first",
        "gaps",
        "left",
        "mirrored",
        "seconds",
        "started",
        "sums",
        "tokens",
    )

    def __init__(self) -> None:
        self.started = self.ended = self.errors = self.left = self.mirrored = self.tokens = 0
        self.seconds, self.first, self.gaps = [0] * BUCKETS, [0] * BUCKETS, [0] * BUCKETS
        self.sums = [0.0, 0.0, 0.0]

    def told(self, service: str, release: str) -> ReleaseCounts:
        times = [
            _times(cells, total)
            for cells, total in zip((self.seconds, self.first, self.gaps), self.sums, strict=True)
        ]
        return ReleaseCounts(
            service=service,
            release=release,
            started=self.started,
            ended=self.ended,
            errors=self.errors,
            left=self.left,
            mirrored=self.mirrored,
            tokens=self.tokens,
            seconds=times[0],
            first=times[1],
            gaps=times[2],
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


class ReleaseStats:
    """`followed` gives the versions of the routing documents by service, empty while no upgrade runs:
    then nothing is counted and nothing told. `name` is the gateway's instance, unique among all."""

    def __init__(
        self,
        name: str,
        events: EventLog,
        clock: Clock,
        log: FilteringBoundLogger,
        followed: Callable[[], Mapping[str, int]],
    ) -> None:
        self._name = name
        self._events = events
        self._clock = clock
        self._log = log
        self._followed = followed
        self._arms: dict[tuple[str, str], _Arm] = {}
        self._sequence = 0
        self._since = clock.monotonic()
        self._task: asyncio.Task[None] | None = None
        self.counting = False

    # ── on the way of a request ──────────────────────────────────────────────────────────────────

    def started(self, service: str, release: str) -> None:
        """The router has sent a request to that release."""
        if self.counting:
            self._arm(service, release).started += 1

    def ended(
        self,
        ctx: Context,
        outcome: Outcome,
        *,
        first: float | None = None,
        last: float | None = None,
        chunks: int = 0,
        mirrored: bool = False,
    ) -> None:
        """A request is over, body included. Times are monotonic; `first`, `last` and `chunks` of a streamed
        answer."""
        if not self.counting or not ctx.attempts:
            return
        answered = ctx.attempts[-1]
        for attempt in ctx.attempts:
            if attempt is not answered:
                arm = self._arm(ctx.service, attempt.release)
                arm.ended += 1
                arm.errors += 1
        arm = self._arm(ctx.service, answered.release)
        arm.ended += 1
        if outcome is Outcome.CANCELLED:
            arm.left += 1
            return
        arm.mirrored += mirrored
        failed = outcome is Outcome.FAILED or answered.status is None or answered.status >= 500
        if failed:
            arm.errors += 1
            return
        began = answered.started
        ended = last or answered.ended or ctx.clock.monotonic()
        arm.seconds[bisect_left(BOUNDS, ended - began)] += 1
        arm.sums[0] += ended - began
        if first is not None:
            arm.first[bisect_left(BOUNDS, first - began)] += 1
            arm.sums[1] += first - began
            if chunks > 1 and last is not None:
                gap = (last - first) / (chunks - 1)
                arm.gaps[bisect_left(BOUNDS, gap)] += 1
                arm.sums[2] += gap
        if ctx.usage is not None:
            arm.tokens += ctx.usage.prompt_tokens + ctx.usage.completion_tokens

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
        )
        self._since = now
        try:
            event = Event(new_id("rst", self._clock), self._name, msgspec.json.encode(report))
            await self._events.append(TOPIC, [event])
        except MoonpoolError as error:  # the next report has fewer numbers, and the comparison less to go by
            self._log.warning("release statistics not told", reason=error.message)
