"""The trace of a call that a service makes to the models on a user's behalf: the outermost filter there.

What the gateway's tracing is for clients' requests, without log and metrics: the call becomes a span below
the one the service works for (core/trace.py), and its attempts spans below that.
"""

from functools import partial

from moonpool.core.body import Outcome
from moonpool.core.context import Context
from moonpool.core.errors import MoonpoolError
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.core.trace import CURRENT
from moonpool.middleware.recorder import Finished
from moonpool.middleware.spans import spans_of, wanted
from moonpool.middleware.tracing import RequestIds
from moonpool.ports.telemetry import SpanExporter, SpanKind


class CallTracing:
    """Without an exporter it hands the trace on and records nothing."""

    def __init__(self, spans: SpanExporter | None) -> None:
        self._spans = spans
        self._ids = RequestIds()

    async def __call__(self, ctx: Context, request: Request, next: Handler) -> Response:
        place = CURRENT.get()
        if place is None:
            return await next(ctx, request)
        ctx.trace_id, ctx.parent_id, ctx.trace_flags, ctx.trace_state = place
        ctx.span_id = self._ids.random(16)
        try:
            response = await next(ctx, request)
        except MoonpoolError as error:
            ctx.decide("tracing", "error", error.detail)
            self._finish(ctx, request, error.status, Outcome.FAILED, error)
            raise
        except BaseException:
            self._finish(ctx, request, 499, Outcome.CANCELLED, None)
            raise
        response.when_settled(partial(self._finish, ctx, request, response.status))
        return response

    def _finish(
        self, ctx: Context, request: Request, status: int, outcome: Outcome, error: Exception | None
    ) -> None:
        if self._spans is None:
            return
        now = ctx.clock.monotonic()
        finished = Finished(ctx, request.method, "", status, 0, None, now, outcome)
        if wanted(finished):
            ctx.payload = None
            self._spans.submit(partial(spans_of, finished, ctx.clock.time() - now, SpanKind.CLIENT))
