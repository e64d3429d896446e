"""Keeps what happened to requests: a ring for `explain`, a line in the access log, a share for monitoring.

The hot path appends one object. A task empties the queue four times a second: it encodes access lines
and publishes records to the event log, all those that were flagged or failed, and a share of the others.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.contracts.requests import TOPIC, AttemptRecord, DecisionRecord, RequestRecord
from moonpool.core.body import Outcome
from moonpool.core.clock import Clock
from moonpool.core.context import Attempt, Context
from moonpool.core.errors import MoonpoolError
from moonpool.ports.events import Event, EventLog

INTERVAL = 0.25
"""Seconds between two rounds."""
SHARE = 25
"""Ordinary records published a round; flagged and failed ones come first and up to ten times that."""
BACKLOG = 20_000
"""Finished requests that may wait for a round; beyond that the oldest are dropped."""


class Finished(NamedTuple):
    """Times are monotonic seconds; `size` is bytes of body sent. Nothing of the request's headers or
    body is in it: what was asked, and with which key, is kept nowhere."""

    ctx: Context
    method: str
    peer: str
    status: int
    size: int
    first: float | None
    ended: float
    outcome: Outcome

    @property
    def notable(self) -> bool:
        return self.status >= 500 or bool(self.ctx.flags) or self.outcome is Outcome.FAILED


class Recorder:
    """`access` writes one line (bytes, without newline) or is None for no access log."""

    def __init__(
        self,
        events: EventLog,
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        keep: int = 1000,
        access: Callable[[Iterable[bytes]], None] | None = None,
    ) -> None:
        self._events = events
        self._clock = clock
        self._log = log
        self._keep = keep
        self._access = access
        self._queue: deque[Finished] = deque(maxlen=BACKLOG)
        self._ring: OrderedDict[str, Finished] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._encoder = msgspec.json.Encoder()
        self._offset = clock.time() - clock.monotonic()

    def add(self, finished: Finished) -> None:
        finished.ctx.payload = None
        self._queue.append(finished)

    def find(self, request_id: str) -> RequestRecord | None:
        """A recent request of this process."""
        finished = self._ring.get(request_id)
        if finished is None:
            finished = next((f for f in self._queue if f.ctx.request_id == request_id), None)
        return None if finished is None else self._record(finished)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="recorder")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._round()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self._round()
            except Exception as error:  # noqa: BLE001 - the task's boundary: a full disk must not end it
                self._log.error("request records are lost", exc_info=error)

    async def _round(self) -> None:
        if not self._queue:
            return
        self._offset = self._clock.time() - self._clock.monotonic()
        batch = list(self._queue)
        self._queue.clear()
        for finished in batch[-self._keep :]:
            self._ring[finished.ctx.request_id] = finished
        while len(self._ring) > self._keep:
            self._ring.popitem(last=False)
        if self._access is not None:
            self._access([self._line(finished) for finished in batch])
        chosen = [finished for finished in batch if finished.notable][: SHARE * 10]
        ordinary = [finished for finished in batch if not finished.notable]
        chosen += ordinary[:: max(1, len(ordinary) // SHARE)][:SHARE]
        try:
            await self._events.append(TOPIC, [self._event(finished) for finished in chosen])
        except MoonpoolError as error:
            # Records are for people; requests do not wait for them.
            self._log.warning("request records not published", count=len(chosen), reason=error.message)

    def _event(self, finished: Finished) -> Event:
        request_id = finished.ctx.request_id
        return Event(request_id, request_id, self._encoder.encode(self._record(finished)))

    def _line(self, finished: Finished) -> bytes:
        ctx = finished.ctx
        return self._encoder.encode(
            {
                "event": "access",
                "time": round(self._offset + ctx.started, 3),
                "request_id": ctx.request_id,
                "trace_id": ctx.trace_id,
                "method": finished.method,
                "route": ctx.route.path,
                "status": finished.status,
                "release": f"{ctx.service}@{ctx.release}" if ctx.release else "",
                "user": ctx.principal.user,
                "tenant": ctx.principal.tenant,
                "key": ctx.principal.key,
                "peer": finished.peer,
                "ms": round((finished.ended - ctx.started) * 1000, 2),
                "bytes": finished.size,
                "outcome": finished.outcome.value,
                "flags": ctx.flags,
                "attempts": [_attempt(attempt, ctx.started) for attempt in ctx.attempts],
            }
        )

    def _record(self, finished: Finished) -> RequestRecord:
        ctx = finished.ctx
        start = ctx.started
        return RequestRecord(
            id=ctx.request_id,
            trace_id=ctx.trace_id,
            at=self._offset + start,
            method=finished.method,
            route=ctx.route.path,
            status=finished.status,
            service=ctx.service,
            release=ctx.release,
            user=ctx.principal.user,
            tenant=ctx.principal.tenant,
            key=ctx.principal.key,
            peer=finished.peer,
            duration_ms=_ms(finished.ended - start),
            first_byte_ms=None if finished.first is None else _ms(finished.first - start),
            bytes_out=finished.size,
            outcome=finished.outcome.value,
            flags=tuple(ctx.flags),
            attempts=tuple(_attempt(attempt, start) for attempt in ctx.attempts),
            decisions=tuple(
                DecisionRecord(name, verdict, reason, _ms(at - start))
                for name, verdict, reason, at in ctx.decisions
            ),
        )


def _attempt(attempt: Attempt, start: float) -> AttemptRecord:
    return AttemptRecord(
        endpoint=attempt.endpoint,
        release=attempt.release,
        started_ms=_ms(attempt.started - start),
        ended_ms=None if attempt.ended is None else _ms(attempt.ended - start),
        status=attempt.status,
        error=attempt.error,
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
