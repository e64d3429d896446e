"""Keeps what happened to requests: a ring for `explain`, a line in the access log, a share for monitoring.

A finished request is told in the access log at once, while all of it is still in the processor's caches,
and then forgotten, unless it is kept: all that were flagged or failed, and a share of the others. Keeping
every one until a later round cost a quarter of the gateway's time at full load. A task writes the lines and
publishes the kept ones four times a second.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.contracts.requests import TOPIC, AttemptRecord, DecisionRecord, RequestRecord
from moonpool.core.body import Outcome
from moonpool.core.clock import Clock
from moonpool.core.context import Attempt, Context
from moonpool.core.errors import MoonpoolError
from moonpool.core.principal import Principal
from moonpool.core.trace import SAMPLED
from moonpool.ports.events import Event, EventLog

INTERVAL = 0.25
"""Seconds between two rounds."""
SHARE = 25
"""Ordinary requests kept a round: a hundred a second, so on a quiet platform all of them."""
NOTABLE_SHARE = SHARE * 10
"""Flagged and failed ones kept a round."""
TRACED = 1000
"""Requests whose spans are exported a round."""
INTRODUCED = 10_000
"""Callers whose fields of the access log are kept ready."""
_NONE = "[]"
LINES = 256
"""Lines of the access log that are written together when there are many."""


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
        ctx = self.ctx
        return (
            self.status >= 500
            or bool(ctx.flags)
            or len(ctx.attempts) > 1
            or self.outcome is Outcome.FAILED
            or bool(ctx.fallback)
        )


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
        export: Callable[[list[Finished]], None] | None = None,
    ) -> None:
        self._events = events
        self._clock = clock
        self._log = log
        self._keep = keep
        self._access = access
        self._export = export
        self._traced: list[Finished] = []
        self._lines: list[bytes] = []
        self._kept: list[Finished] = []
        self._ordinary = SHARE
        self._notable = NOTABLE_SHARE
        self._ring: OrderedDict[str, Finished] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._who: dict[int, tuple[Principal, str]] = {}
        self._encode = msgspec.json.Encoder().encode
        self._offset = clock.time() - clock.monotonic()

    def add(self, finished: Finished) -> None:
        """Called in the event loop, once for every request."""
        if self._access is not None:
            self._lines.append(self._line(finished))
            if len(self._lines) >= LINES:
                self._write()
        notable = finished.notable
        if (
            self._export is not None
            and (notable or finished.ctx.trace_flags & SAMPLED)
            and len(self._traced) < TRACED
        ):
            self._traced.append(finished)
        if notable:
            if self._notable:
                self._notable -= 1
                self._keep_for_now(finished)
        elif self._ordinary:
            self._ordinary -= 1
            self._keep_for_now(finished)

    def _line(self, finished: Finished) -> bytes:
        """A line of the access log, put together by hand: the encoder and its structs took three times as
        long. `time` is Unix seconds of the arrival."""
        ctx = finished.ctx
        started = ctx.started
        principal = ctx.principal
        who = self._who.get(id(principal))
        if who is None or who[0] is not principal:
            who = self._introduce(principal)
        flags, attempts = _NONE, _NONE
        if ctx.flags:
            flags = self._encode(ctx.flags).decode()
        if ctx.attempts:
            attempts = self._attempts(ctx.attempts, started)
        release = f"{ctx.service}@{ctx.release}" if ctx.release else ""
        return (
            f'{{"event":"access","time":{self._offset + started:.3f},"request_id":"{ctx.request_id}",'
            f'"trace_id":"{ctx.trace_id}","method":"{finished.method}","route":"{ctx.route.path}",'
            f'"status":{finished.status},"release":"{release}",{who[1]},"peer":"{finished.peer}",'
            f'"ms":{(finished.ended - started) * 1000:.2f},"bytes":{finished.size},'
            f'"outcome":"{finished.outcome._value_}","flags":{flags},"attempts":{attempts}}}'
        ).encode()

    def _introduce(self, principal: Principal) -> tuple[Principal, str]:
        """The fields of who asked. Held with the object itself, so that its id stays its own."""
        user, tenant, key = (
            self._encode(name).decode() for name in (principal.user, principal.tenant, principal.key)
        )
        if len(self._who) >= INTRODUCED:
            self._who.clear()
        who = self._who[id(principal)] = (principal, f'"user":{user},"tenant":{tenant},"key":{key}')
        return who

    def _attempts(self, attempts: list[Attempt], started: float) -> str:
        if len(attempts) > 1 or attempts[0].error is not None:
            return self._encode([_attempt(attempt, started) for attempt in attempts]).decode()
        (one,) = attempts
        ended = "null" if one.ended is None else f"{(one.ended - started) * 1000:.3f}"
        return (
            f'[{{"endpoint":"{one.endpoint}","release":"{one.release}",'
            f'"started_ms":{(one.started - started) * 1000:.3f},"ended_ms":{ended},'
            f'"status":{"null" if one.status is None else one.status},"error":null}}]'
        )

    def find(self, request_id: str) -> RequestRecord | None:
        """A recent request of this process, if it was kept."""
        finished = self._ring.get(request_id)
        return None if finished is None else _record(finished, self._offset)

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
        self._offset = self._clock.time() - self._clock.monotonic()
        self._ordinary, self._notable = SHARE, NOTABLE_SHARE
        kept, self._kept = self._kept, []
        self._write()
        if self._export is not None and self._traced:
            traced, self._traced = self._traced, []
            self._export(traced)
        if not kept:
            return
        try:
            await self._events.append(TOPIC, [self._event(finished) for finished in kept])
        except MoonpoolError as error:
            # Records are for people; requests do not wait for them.
            self._log.warning("request records not published", count=len(kept), reason=error.detail)

    def _keep_for_now(self, finished: Finished) -> None:
        finished.ctx.payload = None
        self._kept.append(finished)
        self._ring[finished.ctx.request_id] = finished
        if len(self._ring) > self._keep:
            self._ring.popitem(last=False)

    def _write(self) -> None:
        if self._access is not None and self._lines:
            lines, self._lines = self._lines, []
            try:
                self._access(lines)
            except OSError as error:
                self._log.error("access log lines are lost", count=len(lines), reason=str(error))

    def _event(self, finished: Finished) -> Event:
        request_id = finished.ctx.request_id
        return Event(request_id, request_id, self._encode(_record(finished, self._offset)))


def _record(finished: Finished, offset: float) -> RequestRecord:
    ctx = finished.ctx
    start = ctx.started
    return RequestRecord(
        id=ctx.request_id,
        trace_id=ctx.trace_id,
        at=offset + start,
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
