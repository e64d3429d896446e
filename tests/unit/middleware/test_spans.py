"""A finished request as spans: what is told, what is not, and which requests are exported at all."""

import msgspec
import pytest

from moonpool.contracts.usage import Usage
from moonpool.core.body import Outcome
from moonpool.core.context import Attempt
from moonpool.core.decisions import Flag
from moonpool.core.trace import child_id
from moonpool.middleware.recorder import Finished
from moonpool.middleware.spans import EVENTS, SpanExport, spans_of, wanted
from moonpool.ports.telemetry import SpanKind

OFFSET = 1_000_000.0


@pytest.fixture
def finished(make_ctx, clock):
    def make(status: int = 200, outcome: Outcome = Outcome.COMPLETED, first: float | None = None, **fields):
        ctx = make_ctx(**fields)
        start = ctx.started
        return Finished(
            ctx,
            "POST",
            "10.0.0.1",
            status,
            42,
            None if first is None else start + first,
            start + 1.0,
            outcome,
        )

    return make


def attempt(start: float, end: float | None, status: int | None, error: str | None = None) -> Attempt:
    one = Attempt("inference-0", "v1", start)
    one.ended, one.status, one.error = end, status, error
    return one


def test_the_requests_span(finished) -> None:
    done = finished(first=0.25, model="my-model", parent_id="c" * 16, trace_flags=1, release="v2")
    done.ctx.decide("authentication", "allow", "key_1")
    done.ctx.usage = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=7)
    (span,) = spans_of(done, OFFSET)
    start = int((done.ctx.started + OFFSET) * 1e9)
    assert (span.name, span.kind, span.error) == ("POST /v1/chat/completions", SpanKind.SERVER, None)
    assert (span.trace_id, span.span_id, span.parent_id) == ("a" * 32, "b" * 16, "c" * 16)
    assert (span.start, span.end) == (start, start + 10**9)
    assert [event.name for event in span.events] == ["authentication", "first_byte"]
    assert span.events[0].attributes == {"moonpool.verdict": "allow", "moonpool.reason": "key_1"}
    assert (
        span.attributes.items()
        >= {
            "http.request.method": "POST",
            "http.route": "/v1/chat/completions",
            "http.response.status_code": 200,
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "my-model",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 7,
            "gen_ai.usage.cache_read.input_tokens": 4,
            "gen_ai.response.time_to_first_chunk": 0.25,
            "client.address": "10.0.0.1",
            "moonpool.request_id": "req_1",
            "moonpool.release": "v2",
        }.items()
    )
    assert "error.type" not in span.attributes


def test_attempts_are_children_with_the_ids_that_went_upstream(finished) -> None:
    done = finished(model="m")
    start = done.ctx.started
    done.ctx.attempts = [
        attempt(start, start + 0.1, None, "connection refused"),
        attempt(start + 0.1, start + 0.2, 503),
        attempt(start + 0.2, start + 0.3, None, "cancelled"),
        attempt(start + 0.3, None, 200),
    ]
    _, *children = spans_of(done, OFFSET)
    assert [child.span_id for child in children] == [child_id("b" * 16, number) for number in range(4)]
    assert {child.parent_id for child in children} == {"b" * 16}
    assert {(child.kind, child.name) for child in children} == {(SpanKind.CLIENT, "chat m")}
    assert [child.error for child in children] == ["connection refused", "answered 503", None, None]
    assert [child.attributes.get("error.type") for child in children] == [
        "upstream_failed",
        "503",
        None,
        None,
    ]
    assert [child.attributes.get("http.request.resend_count") for child in children] == [None, 1, 2, 3]
    assert children[3].end == int((done.ended + OFFSET) * 1e9)


@pytest.mark.parametrize(
    ("status", "outcome", "error", "kind"),
    [
        (200, Outcome.COMPLETED, None, None),
        (404, Outcome.COMPLETED, None, None),
        (499, Outcome.CANCELLED, None, None),
        (503, Outcome.COMPLETED, "answered 503", "503"),
        (200, Outcome.FAILED, "stream_broken", "stream_broken"),
    ],
)
def test_what_is_an_error(finished, status, outcome, error, kind) -> None:
    (span,) = spans_of(finished(status, outcome), 0.0)
    assert span.error == error
    assert span.attributes.get("error.type") == kind


def test_no_prompt_and_no_header_is_in_it(finished) -> None:
    done = finished()
    done.ctx.payload = {"messages": "a secret prompt"}
    assert b"secret" not in msgspec.json.encode(spans_of(done, 0.0))


def test_events_are_bounded(finished) -> None:
    done = finished()
    for number in range(1000):
        done.ctx.decide("retry", str(number))
    events = spans_of(done, 0.0)[0].events
    assert len(events) == EVENTS
    assert events[-1].attributes["moonpool.verdict"] == "999"


@pytest.mark.parametrize(
    ("fields", "status", "expected"),
    [
        ({}, 200, False),
        ({"trace_flags": 1}, 200, True),
        ({"trace_flags": 2}, 200, False),
        ({}, 503, True),
        ({}, 404, False),
        ({"flags": [Flag.DEGRADED]}, 200, True),
        ({"fallback": "stale"}, 200, True),
        ({"trace_id": "", "trace_flags": 1}, 200, False),
    ],
)
def test_which_are_exported(finished, fields, status, expected) -> None:
    assert wanted(finished(status, **fields)) is expected


class Exporter:
    exported = dropped = 0

    def __init__(self) -> None:
        self.made: list = []

    def submit(self, make) -> None:
        self.made.append(make)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def test_the_recorders_callable_submits_and_does_no_work(finished, clock) -> None:
    exporter = Exporter()
    kept = finished(trace_flags=1, payload="a prompt")
    SpanExport(exporter, clock)([finished(), kept])
    assert kept.ctx.payload is None
    assert len(exporter.made) == 1
    (span,) = exporter.made[0]()
    assert span.start == int((kept.ctx.started + clock.time() - clock.monotonic()) * 1e9)
