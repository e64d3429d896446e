"""Outermost: an id and a trace for everything, an answer for every error, one record at the end."""

import asyncio
import re

import msgspec
import pytest

from moonpool.contracts.manifest import Route
from moonpool.core.body import Outcome, Stream
from moonpool.core.decisions import Flag
from moonpool.core.errors import NotFound, StreamTruncated
from moonpool.core.message import Request, Response
from moonpool.middleware.metrics import RequestMetrics
from moonpool.middleware.tracing import RequestIds, Tracing

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Kept:
    def __init__(self) -> None:
        self.records: list = []

    def add(self, finished) -> None:
        self.records.append(finished)


@pytest.fixture
def recorder() -> Kept:
    return Kept()


@pytest.fixture
def metrics() -> RequestMetrics:
    return RequestMetrics()


@pytest.fixture
def run(make_ctx, recorder, metrics, log):
    layer = Tracing(recorder, metrics, log)

    async def call(outcome: Response | BaseException, headers=None, ctx=None):
        ctx = ctx or make_ctx(request_id="", trace_id="", span_id="")

        async def next(ctx, request) -> Response:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        return ctx, await layer(ctx, Request("GET", "/", headers=headers or {}, peer="10.0.0.1"), next)

    return call


def test_probes_are_not_traced() -> None:
    layer = Tracing(None, None, None)  # type: ignore[arg-type]
    assert not layer.applies(Route(method="GET", path="/livez", quiet=True))
    assert layer.applies(Route(method="GET", path="/"))


async def test_a_whole_answer(run, recorder, metrics) -> None:
    ctx, response = await run(Response(200, [], b"hello"))
    assert response.header(b"x-request-id") == ctx.request_id.encode()
    (record,) = recorder.records
    assert (record.status, record.size, record.outcome, record.first) == (200, 5, Outcome.COMPLETED, None)
    assert (record.method, record.peer) == ("GET", "10.0.0.1")
    assert metrics.active == 0


async def test_errors_become_answers(run, recorder) -> None:
    ctx, response = await run(NotFound("no such thing", param="x", code="gone"))
    assert response.status == 404
    assert response.header(b"x-request-id") == ctx.request_id.encode()
    error = {"message": "no such thing", "type": "invalid_request_error", "param": "x", "code": "gone"}
    assert msgspec.json.decode(response.body) == {"error": error}
    assert recorder.records[0].status == 404
    assert ctx.trace()[-1][:3] == ("tracing", "error", "no such thing")


@pytest.mark.parametrize("error", [NotFound("gone"), ValueError("a bug")])
async def test_an_error_s_answer_has_the_fields_that_filters_left_for_it(run, make_ctx, error) -> None:
    ctx = make_ctx(error_fields=((b"ratelimit", b"x"), (b"ratelimit", b"y")))
    _, response = await run(error, ctx=ctx)
    assert [value for name, value in response.headers if name == b"ratelimit"] == [b"x", b"y"]


async def test_a_bug_is_logged_and_not_shown(run, log) -> None:
    _, response = await run(ZeroDivisionError("secret detail"))
    assert response.status == 500
    assert b"secret" not in response.body
    ((level, _, fields),) = log.lines
    assert level == "error"
    assert isinstance(fields["exc_info"], ZeroDivisionError)


async def test_a_client_that_left(run, recorder, metrics, make_ctx) -> None:
    ctx = make_ctx()
    with pytest.raises(asyncio.CancelledError):
        await run(asyncio.CancelledError(), ctx=ctx)
    assert ctx.flags == [Flag.CLIENT_GONE]
    assert (recorder.records[0].status, recorder.records[0].outcome) == (499, Outcome.CANCELLED)
    assert metrics.active == 0


async def test_a_stream_is_recorded_at_its_end(run, recorder, metrics, clock, sink) -> None:
    body = Stream()
    _, response = await run(Response(200, [], body))
    response.body.connect(sink)
    clock.advance(0.5)
    body.feed(b"one")
    clock.advance(0.1)
    body.feed(b"three")
    assert (recorder.records, metrics.active) == ([], 1)
    body.finish()
    (record,) = recorder.records
    assert (record.size, record.outcome) == (8, Outcome.COMPLETED)
    assert record.first == pytest.approx(record.ctx.started + 0.5)
    assert metrics.gaps("/v1/chat/completions", "").sum == pytest.approx(0.1)
    assert metrics.active == 0


@pytest.mark.parametrize(
    ("end", "outcome", "flags"),
    [
        (lambda body: body.cancel(), Outcome.CANCELLED, [Flag.CLIENT_GONE]),
        (lambda body: body.fail(StreamTruncated("cut")), Outcome.FAILED, []),
    ],
)
async def test_a_stream_that_breaks_off(run, recorder, metrics, sink, end, outcome, flags) -> None:
    body = Stream()
    ctx, _ = await run(Response(200, [], body))
    body.connect(sink)
    end(body)
    assert recorder.records[0].outcome is outcome
    assert ctx.flags == flags
    assert metrics.active == 0


async def test_a_bug_below_a_stream_is_logged(run, log, sink) -> None:
    class Broken:
        def chunk(self, data: bytes) -> bytes:
            raise ZeroDivisionError

        def finish(self) -> bytes:
            return b""

    body = Stream()
    body.transform(Broken())
    await run(Response(200, [], body))
    body.connect(sink)
    body.feed(b"x")
    ((level, _, fields),) = log.lines
    assert level == "error"
    assert isinstance(fields["exc_info"], ZeroDivisionError)


async def test_a_trace_goes_on(run) -> None:
    headers = {b"traceparent": f"00-{TRACE}-{SPAN}-01".encode(), b"tracestate": b"a=1,b=2"}
    ctx, _ = await run(Response(200), headers)
    assert (ctx.trace_id, ctx.parent_id, ctx.trace_flags, ctx.trace_state) == (TRACE, SPAN, 1, "a=1,b=2")
    assert ctx.span_id != SPAN
    assert re.fullmatch("[0-9a-f]{16}", ctx.span_id)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        f"00-{TRACE}-{SPAN}".encode(),
        f"00-{TRACE}-{SPAN}-01-extra".encode(),
        f"00-{TRACE}-{SPAN}-01\n".encode(),
        f"00-{TRACE.upper()}-{SPAN}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{TRACE[:-1]}g-{SPAN}-01".encode(),
        b"\xff" * 55,
    ],
)
async def test_what_is_no_trace_begins_a_new_one(run, value: bytes) -> None:
    ctx, _ = await run(Response(200), {b"traceparent": value, b"tracestate": b"a=1"})
    assert re.fullmatch("[0-9a-f]{32}", ctx.trace_id)
    assert ctx.trace_id != TRACE
    assert (ctx.parent_id, ctx.trace_state) == ("", "")


def test_ids_are_unique_and_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_700_000_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    ids = RequestIds()
    made = []
    for _ in range(1000):
        now[0] += 0.002
        made.append(ids.new())
    assert made == sorted(made)
    assert len(set(made)) == 1000
    assert all(re.fullmatch("req_[0-9a-f]{32}", id) for id in made)
    now[0] = 1_700_000_000.0
    same = {ids.new()[16:] for _ in range(1000)}
    assert len(same) == 1000
