"""A service's calls to the models stand in the trace of the request that they are made for."""

import pytest

from moonpool.core.body import Outcome, Stream
from moonpool.core.context import Attempt
from moonpool.core.errors import Unavailable
from moonpool.core.message import Request, Response
from moonpool.core.trace import CURRENT, Place
from moonpool.middleware.call_tracing import CallTracing
from moonpool.ports.telemetry import SpanKind

HERE = Place("1" * 32, "2" * 16, 1, "v=1")


class Exporter:
    exported = dropped = 0

    def __init__(self) -> None:
        self.spans: list = []

    def submit(self, make) -> None:
        self.spans += make()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


@pytest.fixture
def here():
    token = CURRENT.set(HERE)
    yield HERE
    CURRENT.reset(token)


def request() -> Request:
    return Request("POST", "/v1/chat/completions")


async def test_the_call_and_its_attempts(make_ctx, here) -> None:
    exporter, stream = Exporter(), Stream()

    async def below(ctx, _) -> Response:
        ctx.attempts.append(Attempt("inference-0", "v1", ctx.started))
        return Response(200, [], stream)

    ctx = make_ctx(trace_id="", span_id="")
    await CallTracing(exporter)(ctx, request(), below)
    assert exporter.spans == []  # the body is not over
    stream.cancel()
    call, attempt = exporter.spans
    assert (call.trace_id, call.parent_id, call.kind) == (HERE.trace_id, HERE.span_id, SpanKind.CLIENT)
    assert (attempt.trace_id, attempt.parent_id) == (HERE.trace_id, call.span_id)
    assert call.attributes["moonpool.outcome"] == Outcome.CANCELLED.value


async def test_a_failure_is_told_also_of_a_trace_that_is_not_recorded(make_ctx) -> None:
    exporter = Exporter()

    async def below(ctx, _) -> Response:
        raise Unavailable("nobody there")

    token = CURRENT.set(HERE._replace(flags=0))
    try:
        with pytest.raises(Unavailable):
            await CallTracing(exporter)(make_ctx(), request(), below)
    finally:
        CURRENT.reset(token)
    (call,) = exporter.spans
    assert call.error is not None
    assert call.events[-1].attributes["moonpool.reason"] == "nobody there"


async def test_without_a_trace_or_an_exporter_nothing_is_recorded(make_ctx, here) -> None:
    async def below(ctx, _) -> Response:
        return Response(500)

    ctx = make_ctx(trace_id="")
    await CallTracing(None)(ctx, request(), below)
    assert ctx.trace_id == HERE.trace_id  # handed on all the same
    exporter = Exporter()
    CURRENT.set(None)
    await CallTracing(exporter)(make_ctx(trace_id=""), request(), below)
    assert exporter.spans == []
