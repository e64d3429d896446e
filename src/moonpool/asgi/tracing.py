"""One SERVER span for each request of a service, a child of its caller's: the trace goes on here.

It is exported when the caller records its trace, and whenever the answer is a failure (5xx, or none).
"""

from collections.abc import Mapping
from functools import partial
from os import urandom

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from moonpool.asgi.caller import OPEN_PATHS
from moonpool.contracts.context import REQUEST_ID
from moonpool.core.clock import Clock
from moonpool.core.trace import CURRENT, SAMPLED, Place, parse
from moonpool.ports.telemetry import Span, SpanEvent, SpanExporter, SpanKind, Value


class SpanMiddleware:
    """Pure ASGI, outermost. Only there when spans are exported at all."""

    def __init__(self, app: ASGIApp, *, spans: SpanExporter, clock: Clock) -> None:
        self._app = app
        self._spans = spans
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        caller = parse(headers.get(b"traceparent"), headers.get(b"tracestate", b""))
        trace_id = caller.trace_id if caller else urandom(16).hex()
        own = Place(trace_id, urandom(8).hex(), caller.flags if caller else 0, caller.state if caller else "")
        answer = _Answer(self._clock)
        failed = ""
        started = self._clock.time()
        token = CURRENT.set(own)
        try:
            await self._app(scope, receive, partial(answer.send, send))
        except BaseException as error:
            failed = type(error).__name__
            raise
        finally:
            CURRENT.reset(token)
            if own.flags & SAMPLED or answer.status >= 500 or failed:
                request_id = headers.get(REQUEST_ID, b"").decode("latin-1")
                ended = self._clock.time()
                self._spans.submit(
                    partial(_span, own, caller, scope, answer, request_id, started, ended, failed)
                )


class _Answer:
    """What was sent, as seen from outside."""

    __slots__ = ("_clock", "first", "size", "status")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.status = 0
        self.size = 0
        self.first: float | None = None

    async def send(self, send: Send, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            body = message["body"]
            self.size += len(body)
            if self.first is None and body:
                self.first = self._clock.time()
        await send(message)


def _span(
    own: Place,
    caller: Place | None,
    scope: Mapping[str, object],
    answer: _Answer,
    request_id: str,
    started: float,
    ended: float,
    failed: str,
) -> list[Span]:
    route = scope.get("path_template") or ""
    attributes: dict[str, Value] = {
        "http.request.method": str(scope["method"]),
        "http.response.body.size": answer.size,
        "moonpool.request_id": request_id,
    }
    if route:
        attributes["http.route"] = str(route)
    if answer.status:
        attributes["http.response.status_code"] = answer.status
    error = f"answered {answer.status}" if answer.status >= 500 else None
    if failed == "CancelledError":  # the caller has left: nobody's fault
        attributes["moonpool.outcome"] = "cancelled"
    elif failed:
        error = failed
    if error is not None:
        attributes["error.type"] = failed or str(answer.status)
    events = [] if answer.first is None else [SpanEvent("first_byte", _nano(answer.first), {})]
    return [
        Span(
            trace_id=own.trace_id,
            span_id=own.span_id,
            parent_id=caller.span_id if caller else "",
            flags=own.flags | SAMPLED,
            trace_state=own.state,
            name=f"{scope['method']} {route}".rstrip(),
            kind=SpanKind.SERVER,
            start=_nano(started),
            end=_nano(ended),
            attributes=attributes,
            events=events,
            error=error,
        )
    ]


def _nano(seconds: float) -> int:
    return int(seconds * 1e9)
