"""A service's part of a trace."""

import pytest

from moonpool.asgi.tracing import SpanMiddleware
from moonpool.core.clock import ManualClock
from moonpool.core.trace import CURRENT, Place
from moonpool.ports.telemetry import Span, SpanKind

TRACE, SPAN = "1" * 32, "2" * 16


class Exporter:
    exported = dropped = 0

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def submit(self, make) -> None:
        self.spans += make()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


@pytest.fixture
def exporter() -> Exporter:
    return Exporter()


@pytest.fixture
def call(exporter):
    clock = ManualClock()

    async def run(
        app=None, flags: str | None = "01", path: str = "/x/7", status: int = 200
    ) -> list[Place | None]:
        seen: list[Place | None] = []

        async def answer(scope, receive, send) -> None:
            seen.append(CURRENT.get())
            scope["path_template"] = "/x/{id}"
            clock.advance(0.5)
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"12345", "more_body": False})

        async def send(message) -> None: ...

        headers = [(b"x-request-id", b"req_1")]
        if flags is not None:
            headers.append((b"traceparent", f"00-{TRACE}-{SPAN}-{flags}".encode()))
        scope = {"type": "http", "method": "GET", "path": path, "headers": headers}
        await SpanMiddleware(app or answer, spans=exporter, clock=clock)(scope, None, send)  # type: ignore[arg-type]
        return seen

    return run


async def test_a_child_of_the_caller(call, exporter) -> None:
    (place,) = await call()
    (span,) = exporter.spans
    assert (span.trace_id, span.parent_id, span.span_id) == (TRACE, SPAN, place.span_id)
    assert (span.name, span.kind, span.error) == ("GET /x/{id}", SpanKind.SERVER, None)
    assert span.end - span.start == 500_000_000
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": "/x/{id}",
        "http.response.status_code": 200,
        "http.response.body.size": 5,
        "moonpool.request_id": "req_1",
    }
    assert CURRENT.get() is None


@pytest.mark.parametrize(
    ("flags", "status", "expected"),
    [("01", 200, 1), ("00", 200, 0), ("00", 404, 0), ("00", 503, 1), (None, 200, 0), (None, 500, 1)],
)
async def test_the_callers_flag_counts_and_failures_always(call, exporter, flags, status, expected) -> None:
    await call(flags=flags, status=status)
    assert len(exporter.spans) == expected
    if expected and status >= 500:
        assert exporter.spans[0].error == f"answered {status}"


async def test_probes_are_not_traced(call, exporter) -> None:
    assert await call(path="/readyz") == [None]
    assert exporter.spans == []


async def test_what_escapes_is_told_and_goes_on(call, exporter) -> None:
    async def crash(scope, receive, send) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await call(crash)
    assert exporter.spans[0].error == "ZeroDivisionError"
    assert CURRENT.get() is None
