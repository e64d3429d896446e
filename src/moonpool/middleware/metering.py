"""Metering: every completion becomes exactly one usage event, whatever is killed on the way.

The event is in the journal (ports/journal.py) before the last byte of the answer leaves the
process: when a client has its answer, its usage cannot be lost. A stream is journalled as opened at its
first byte and now and then after that, so that a gateway killed in the middle leaves what it knew.

Usage is what the endpoint reports. It is always asked for (`stream_options.include_usage`), and kept
from clients that did not ask. An endpoint that reports none is metered by counting events, marked so.

A dead letter that is sent again is counted when it is done: what is broken off is sent once more, under the
same id, and its real usage must not meet that of a part.
"""

import asyncio

import msgspec

from moonpool.contracts.manifest import Route
from moonpool.contracts.usage import Usage, UsageEvent
from moonpool.core.body import Outcome, Stream
from moonpool.core.context import Context
from moonpool.core.errors import StreamTruncated
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.openai.usage import ChunkScan, usage_of_body, usage_of_event
from moonpool.ports.journal import Journal

PROGRESS_EVERY = 32
"""Events between two progress marks of a stream in the journal. Plain ones pass the meter by, but the first
of a stream and one of so many (kept_events.BATCH) are not told to be plain."""
READ_LIMIT = 16 * 1024 * 1024
"""Bytes of a whole answer that are looked at for its usage; longer ones are estimated."""

_encode = msgspec.json.Encoder().encode


class Metering:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def applies(self, route: Route) -> bool:
        return route.metered

    async def __call__(self, ctx: Context, request: Request, next: Handler) -> Response:
        try:
            response = await next(ctx, request)
        except asyncio.CancelledError:
            if ctx.attempts and not ctx.letter:  # an endpoint was working on it when the client left
                ctx.usage = _guess(ctx, 0)
                event = usage_event(ctx, ctx.usage, streamed=False, outcome="cancelled", estimated=True)
                self._journal.close(event.id, _encode(event))
            raise
        if response.status != 200:
            return response
        body = response.body
        if isinstance(body, Stream):
            json = b"json" in (response.header(b"content-type") or b"").lower()
            meter = AnswerMeter(ctx, self._journal) if json else StreamMeter(ctx, self._journal, body)
            body.transform(meter, thorough=json)
            body.on_settled(meter.settled)
        else:
            usage = usage_of_body(body)
            estimated = usage is None
            ctx.usage = usage or _guess(ctx, 0)
            event = usage_event(ctx, ctx.usage, streamed=False, estimated=estimated)
            self._journal.close(event.id, _encode(event))
        return response


def usage_event(
    ctx: Context, usage: Usage, *, streamed: bool, outcome: str = "completed", estimated: bool = False
) -> UsageEvent:
    principal = ctx.principal
    attempt = ctx.attempts[-1] if ctx.attempts else None
    return UsageEvent(
        id=ctx.request_id,
        at=ctx.clock.time(),
        user=principal.user,
        tenant=principal.tenant,
        key=principal.key,
        route=ctx.route.path,
        model=ctx.model,
        target=attempt.endpoint if attempt is not None else "",
        release=ctx.release,
        usage=usage,
        streamed=streamed,
        outcome=outcome,
        estimated=estimated,
        bill=msgspec.UNSET if ctx.tariff is None else ctx.tariff.bill(ctx.model),
    )


def _guess(ctx: Context, completion_tokens: int) -> Usage:
    """What is known when nobody reports it: the prompt's length, and the events that came."""
    return Usage(prompt_tokens=ctx.prompt_tokens, completion_tokens=completion_tokens)


class StreamMeter:
    """The transform on a metered stream: counts events, takes the usage out, insists on `[DONE]`."""

    __slots__ = ("_ctx", "_journal", "_journalled", "_next_mark", "_opened", "_scan", "_stream", "_usage")

    def __init__(self, ctx: Context, journal: Journal, stream: Stream) -> None:
        self._ctx = ctx
        self._journal = journal
        self._stream = stream
        self._scan = ChunkScan()
        self._usage: Usage | None = None
        self._opened = ctx.letter
        self._journalled = False
        self._next_mark = PROGRESS_EVERY

    def chunk(self, data: bytes) -> bytes:
        """What of `data` may go on: whole events only, without the usage the client did not ask for."""
        if not self._opened:
            self._opened = True
            event = usage_event(
                self._ctx, _guess(self._ctx, 0), streamed=True, outcome="interrupted", estimated=True
            )
            self._journal.open(event.id, _encode(event))
        scan = self._scan
        passed = scan.feed(data)
        if scan.noteworthy:
            passed = self._look_closer(passed)
        events = self._events
        if events >= self._next_mark:
            self._next_mark = events + PROGRESS_EVERY
            if not self._ctx.letter:
                self._journal.progress(self._ctx.request_id, events)
            if self._ctx.progress is not None:
                self._ctx.progress(events)
            if self._ctx.produced is not None:
                self._ctx.produced(PROGRESS_EVERY)
        if scan.done and not self._journalled:
            self._close("completed")
        return passed

    @property
    def _events(self) -> int:
        return self._scan.events + self._stream.passed_by

    def finish(self) -> bytes:
        last = self._scan.finish()
        if self._scan.done and not self._journalled:
            self._close("completed")
        if not self._scan.done and not self._scan.failed:
            raise StreamTruncated("the model's stream ended before it was complete")
        return last

    def settled(self, outcome: Outcome, error: Exception | None) -> None:
        if not (self._journalled or self._ctx.letter):
            self._close("cancelled" if outcome is Outcome.CANCELLED else "failed")

    def _look_closer(self, events: bytes) -> bytes:
        kept = []
        for event in self._scan.split(events):
            usage, only_usage = usage_of_event(event)
            if usage is not None:
                self._usage = usage
            if not (only_usage and not self._ctx.usage_wanted):
                kept.append(event)
        return b"".join(kept)

    def _close(self, outcome: str) -> None:
        self._journalled = True
        usage = self._usage
        estimated = usage is None
        if usage is None:
            usage = _guess(self._ctx, self._events)
        self._ctx.usage = usage
        event = usage_event(self._ctx, usage, streamed=True, outcome=outcome, estimated=estimated)
        self._journal.close(event.id, _encode(event))


class AnswerMeter:
    """The transform on a whole answer that comes in pieces: long embeddings, endpoints that answer in
    chunks. It changes nothing and reads a copy at the end."""

    __slots__ = ("_copy", "_ctx", "_journal", "_journalled", "_size")

    def __init__(self, ctx: Context, journal: Journal) -> None:
        self._ctx = ctx
        self._journal = journal
        self._copy: list[bytes] = []
        self._size = 0
        self._journalled = False

    def chunk(self, data: bytes) -> bytes:
        if not (self._size or self._ctx.letter):
            event = usage_event(
                self._ctx, _guess(self._ctx, 0), streamed=False, outcome="interrupted", estimated=True
            )
            self._journal.open(event.id, _encode(event))
        self._size += len(data)
        if self._size <= READ_LIMIT:
            self._copy.append(data)
        else:
            self._copy.clear()
        return data

    def finish(self) -> bytes:
        self._close("completed", usage_of_body(b"".join(self._copy)))
        return b""

    def settled(self, outcome: Outcome, error: Exception | None) -> None:
        if not (self._journalled or self._ctx.letter):
            self._close("cancelled" if outcome is Outcome.CANCELLED else "failed", None)

    def _close(self, outcome: str, usage: Usage | None) -> None:
        self._journalled = True
        self._copy.clear()
        known = self._ctx.usage = usage or _guess(self._ctx, 0)
        event = usage_event(self._ctx, known, streamed=False, outcome=outcome, estimated=usage is None)
        self._journal.close(event.id, _encode(event))
