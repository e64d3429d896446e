"""Tracing and logging: the outermost filter.

Gives every request its id and its place in a W3C trace, turns every error into an answer, and when the
body is over hands one finished record to the recorder and the metrics. Nothing of it is encoded or
published while the request runs (middleware/recorder.py does that, in batches).
"""

import time
from bisect import bisect_left
from functools import partial
from os import urandom

from structlog.typing import FilteringBoundLogger

from moonpool.contracts.manifest import Route
from moonpool.core.body import Outcome, Stream
from moonpool.core.context import Context
from moonpool.core.decisions import Flag
from moonpool.core.errors import InternalError, MoonpoolError
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.core.trace import parse
from moonpool.middleware.blame import tell
from moonpool.middleware.metrics import BUCKETS, Histogram, RequestMetrics
from moonpool.middleware.recorder import Finished, Recorder
from moonpool.middleware.release_stats import ReleaseStats
from moonpool.middleware.sampling import Sampler
from moonpool.middleware.server_timing import ASKED, NAME, server_timing
from moonpool.middleware.verdicts import Verdicts
from moonpool.openai.errors import render_error

NOTHING_SAMPLED = Sampler(0.0)
BLOCK = 34 * 128
"""Bytes drawn from the system at once."""


class Tracing:
    def __init__(
        self,
        recorder: Recorder,
        metrics: RequestMetrics,
        log: FilteringBoundLogger,
        *,
        sampler: Sampler = NOTHING_SAMPLED,
        verdicts: Verdicts | None = None,
        stats: ReleaseStats | None = None,
    ) -> None:
        self._recorder = recorder
        self._metrics = metrics
        self._sampler = sampler
        self._verdicts = verdicts
        self._stats = stats
        self._log = log
        self._ids = RequestIds()

    def applies(self, route: Route) -> bool:
        return not route.quiet

    async def __call__(self, ctx: Context, request: Request, next: Handler) -> Response:
        self._metrics.active += 1
        self._ids.name(ctx)
        self._place(ctx, request)
        try:
            response = await next(ctx, request)
        except MoonpoolError as error:
            response = render_error(error)
            response.headers += ctx.error_fields
            tell(ctx, error)
        except Exception as error:  # noqa: BLE001 - the process boundary: the client gets an answer, we the traceback
            self._log.error("unforeseen error", request_id=ctx.request_id, exc_info=error)
            response = render_error(InternalError("the gateway failed unexpectedly"))
            response.headers += ctx.error_fields
            ctx.decide("tracing", "error", type(error).__name__)
        except BaseException:  # cancelled: the client left before there was an answer
            ctx.flags.append(Flag.CLIENT_GONE)
            self._finish(ctx, request.method, request.peer, 499, 0, Outcome.CANCELLED)
            raise
        response.headers.append((b"x-request-id", ctx.request_id.encode()))
        if ctx.attempts:
            response.headers.append((b"x-moonpool-attempts", b"%d" % len(ctx.attempts)))
        if ASKED in request.headers:
            timing = server_timing(ctx, request)
            if timing is not None:
                response.headers.append((NAME, timing))
        body = response.body
        if isinstance(body, Stream):
            self._follow(ctx, request, response.status, body)
        else:
            self._finish(ctx, request.method, request.peer, response.status, len(body), Outcome.COMPLETED)
        return response

    def _place(self, ctx: Context, request: Request) -> None:
        """Continue the caller's trace, or begin one (W3C Trace Context, level 1)."""
        headers = request.headers
        if b"traceparent" in headers:
            place = parse(headers[b"traceparent"], headers.get(b"tracestate", b""))
            if place is not None:
                ctx.trace_id, ctx.parent_id, ctx.trace_flags, state = place
                if state:
                    ctx.trace_state = state
                return
        ctx.trace_flags = self._sampler.flags(ctx.trace_id, ctx.started)

    def _follow(self, ctx: Context, request: Request, status: int, stream: Stream) -> None:
        observed = _Observed(ctx, self._metrics)
        stream.transform(observed)
        stream.on_settled(partial(self._settled, request.method, request.peer, status, observed))

    def _settled(
        self,
        method: str,
        peer: str,
        status: int,
        observed: "_Observed",
        outcome: Outcome,
        error: Exception | None,
    ) -> None:
        ctx = observed.ctx
        if outcome is Outcome.CANCELLED:
            ctx.flags.append(Flag.CLIENT_GONE)
        if isinstance(error, MoonpoolError):
            ctx.decide("tracing", "broken", error.detail)
            if error.__cause__ is not None:
                self._log.error("unforeseen error", request_id=ctx.request_id, exc_info=error.__cause__)
        self._finish(ctx, method, peer, status, observed.size, outcome, observed)

    def _finish(
        self,
        ctx: Context,
        method: str,
        peer: str,
        status: int,
        size: int,
        outcome: Outcome,
        observed: "_Observed | None" = None,
    ) -> None:
        ended = ctx.clock.monotonic()
        metrics = self._metrics
        metrics.active -= 1
        metrics.finished(ctx.route.path, ctx.release, status, ended - ctx.started)
        for flag in ctx.flags:
            metrics.flagged(flag)
        if self._verdicts is not None:
            self._verdicts.count(ctx)
        first = None if observed is None else observed.first
        stats = self._stats
        if stats is not None and stats.counting:
            last, chunks = (observed.last, observed.chunks) if observed is not None else (0.0, 0)
            stats.ended(ctx, outcome, first, last, chunks)
        self._recorder.add(Finished(ctx, method, peer, status, size, first, ended, outcome))


class _Observed:
    """A transform that measures and changes nothing."""

    __slots__ = ("_gaps", "_metrics", "_now", "chunks", "ctx", "first", "last", "size")

    def __init__(self, ctx: Context, metrics: RequestMetrics) -> None:
        self.ctx = ctx
        self._metrics = metrics
        self._now = ctx.clock.monotonic
        self._gaps: Histogram | None = None
        self.last = 0.0
        self.chunks = 0
        self.first: float | None = None
        self.size = 0

    def chunk(self, data: bytes) -> bytes:
        self.size += len(data)
        now = self._now()
        gaps = self._gaps
        if gaps is None:
            ctx = self.ctx
            self.first = now
            self._gaps = self._metrics.gaps(ctx.route.path, ctx.release)
            self._metrics.first_byte(ctx.route.path, ctx.release, now - ctx.started)
        else:
            gap = now - self.last  # as `observe`, which would be a frame more for every event
            gaps.counts[bisect_left(BUCKETS, gap)] += 1
            gaps.sum += gap
        self.last = now
        self.chunks += 1
        return data

    def finish(self) -> bytes:
        return b""


class RequestIds:
    """`req_` + 12 hex digits of milliseconds + 20 random ones: sortable by time, not to be guessed; and
    the random digits of trace and span ids.

    Randomness comes from the system, drawn in blocks: one system call for a hundred requests.
    """

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0

    def name(self, ctx: Context) -> None:
        """Give a request its ids. A letter that is sent again keeps its own."""
        digits = self.random(68)
        ctx.trace_id = digits[:32]
        ctx.span_id = digits[32:48]
        if not ctx.request_id:
            ctx.request_id = "req_%012x%s" % (int(time.time() * 1000), digits[48:])  # noqa: UP031 - a third of the time

    def new(self) -> str:
        return f"req_{int(time.time() * 1000):012x}{self.random(20)}"

    def random(self, digits: int) -> str:
        """So many random hex digits."""
        start = self._at
        end = self._at = start + digits
        if end > len(self._digits):
            self._digits = urandom(BLOCK).hex()
            start, end = 0, digits
            self._at = digits
        return self._digits[start:end]
