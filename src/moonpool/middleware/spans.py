"""What happened to a request, as OpenTelemetry spans: its own, and one for each attempt below it. Pure.

    POST /v1/chat/completions          SERVER   every decision is an event
      └ chat my-model                  CLIENT   attempt 1; its id is what the endpoint got as its parent
      └ chat my-model                  CLIENT   attempt 2

Attributes follow the semantic conventions for HTTP and for generative AI; what has no name there is
`moonpool.*`. Paths are told as their route's template, and prompts and answers never.
"""

from collections.abc import Iterable
from functools import partial

from moonpool.contracts.usage import Usage
from moonpool.core.body import Outcome
from moonpool.core.clock import Clock
from moonpool.core.context import Attempt, Context
from moonpool.core.trace import SAMPLED, child_id
from moonpool.middleware.recorder import Finished
from moonpool.ports.telemetry import Span, SpanEvent, SpanExporter, SpanKind, Value

EVENTS = 128
"""Events a span has at most, as OpenTelemetry's SDKs limit them."""
OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/beta/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
"""`gen_ai.operation.name` by route."""


class SpanExport:
    """What the recorder gives its finished requests to."""

    def __init__(self, exporter: SpanExporter, clock: Clock) -> None:
        self._exporter = exporter
        self._clock = clock

    def __call__(self, batch: Iterable[Finished]) -> None:
        offset = self._clock.time() - self._clock.monotonic()
        for finished in batch:
            if wanted(finished):
                finished.ctx.payload = None  # what was asked is held no longer than the request
                self._exporter.submit(partial(spans_of, finished, offset))


def wanted(finished: Finished) -> bool:
    """Whether the caller, or the sampler, has marked the trace; failures and fallbacks always."""
    ctx = finished.ctx
    return bool(ctx.trace_id) and (bool(ctx.trace_flags & SAMPLED) or finished.notable or bool(ctx.fallback))


def spans_of(finished: Finished, offset: float, kind: SpanKind = SpanKind.SERVER) -> list[Span]:
    """The request's span, then its attempts'. `offset` makes Unix seconds of monotonic ones; `kind` is
    CLIENT for a call that this process makes on its own."""
    ctx = finished.ctx
    failed = _failure(finished)
    attributes = _request_attributes(finished)
    if failed is not None:
        attributes["error.type"] = failed if finished.outcome is Outcome.FAILED else str(finished.status)
    span = Span(
        trace_id=ctx.trace_id,
        span_id=ctx.span_id,
        parent_id=ctx.parent_id,
        flags=ctx.trace_flags | SAMPLED,
        trace_state=ctx.trace_state,
        name=f"{finished.method} {ctx.route.path}",
        kind=kind,
        start=_nano(ctx.started + offset),
        end=_nano(finished.ended + offset),
        attributes=attributes,
        events=_events(finished, offset),
        error=failed,
    )
    return [span, *(_attempt(finished, number, offset) for number in range(len(ctx.attempts)))]


def _failure(finished: Finished) -> str | None:
    """In words. Refusals (4xx) are the client's own, and those who left are no failure either."""
    if finished.outcome is Outcome.FAILED:
        return "stream_broken"
    return f"answered {finished.status}" if finished.status >= 500 else None


def _request_attributes(finished: Finished) -> dict[str, Value]:
    ctx = finished.ctx
    principal = ctx.principal
    attributes: dict[str, Value] = {
        "http.request.method": finished.method,
        "http.route": ctx.route.path,
        "http.response.status_code": finished.status,
        "http.response.body.size": finished.size,
        "moonpool.request_id": ctx.request_id,
        "moonpool.outcome": finished.outcome.value,
    }
    optional: dict[str, Value] = {
        "client.address": finished.peer,
        "user.id": principal.user,
        "moonpool.tenant": principal.tenant,
        "moonpool.key": principal.key,
        "moonpool.service": ctx.service,
        "moonpool.release": ctx.release,
        "moonpool.fallback": ctx.fallback,
        "moonpool.flags": [str(flag) for flag in ctx.flags],
    }
    attributes |= {name: value for name, value in optional.items() if value}
    if finished.first is not None:
        model = ctx.route.path in OPERATIONS
        name = "gen_ai.response.time_to_first_chunk" if model else "moonpool.first_byte_seconds"
        attributes[name] = round(finished.first - ctx.started, 6)
    return attributes | _model_attributes(ctx)


def _model_attributes(ctx: Context) -> dict[str, Value]:
    """By the semantic conventions for generative AI; empty for what asks no model."""
    operation = OPERATIONS.get(ctx.route.path)
    if operation is None:
        return {}
    attributes: dict[str, Value] = {"gen_ai.operation.name": operation, "gen_ai.provider.name": "moonpool"}
    if ctx.model:
        attributes["gen_ai.request.model"] = ctx.model
    usage = ctx.usage
    if isinstance(usage, Usage):
        attributes["gen_ai.usage.input_tokens"] = usage.prompt_tokens
        attributes["gen_ai.usage.output_tokens"] = usage.completion_tokens
        attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
        attributes["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    return attributes


def _events(finished: Finished, offset: float) -> list[SpanEvent]:
    """The decisions, and when the first byte left."""
    events = [
        SpanEvent(
            name,
            _nano(at + offset),
            {"moonpool.verdict": verdict, "moonpool.reason": reason}
            if reason
            else {"moonpool.verdict": verdict},
        )
        for name, verdict, reason, at in finished.ctx.decisions
    ]
    if finished.first is not None:
        events.append(SpanEvent("first_byte", _nano(finished.first + offset), {}))
        events.sort(key=lambda event: event.at)
    return events if len(events) <= EVENTS else [*events[: EVENTS // 2], *events[-EVENTS // 2 :]]


def _attempt(finished: Finished, number: int, offset: float) -> Span:
    ctx = finished.ctx
    attempt = ctx.attempts[number]
    operation = OPERATIONS.get(ctx.route.path)
    attributes: dict[str, Value] = {
        "http.request.method": finished.method,
        "moonpool.endpoint": attempt.endpoint,
        "moonpool.release": attempt.release,
    }
    if number:
        attributes["http.request.resend_count"] = number
    if attempt.status is not None:
        attributes["http.response.status_code"] = attempt.status
    if operation is not None:
        attributes["gen_ai.operation.name"] = operation
        attributes["gen_ai.provider.name"] = "moonpool"
        attributes["gen_ai.request.model"] = ctx.model
    error = _attempt_error(attempt)
    if error is not None:
        answered = attempt.error is None
        attributes["error.type"] = str(attempt.status) if answered else "upstream_failed"
    ended = finished.ended if attempt.ended is None else attempt.ended
    return Span(
        trace_id=ctx.trace_id,
        span_id=child_id(ctx.span_id, number),
        parent_id=ctx.span_id,
        flags=ctx.trace_flags | SAMPLED,
        trace_state=ctx.trace_state,
        name=f"{operation} {ctx.model}".rstrip() if operation else f"{finished.method} {ctx.route.path}",
        kind=SpanKind.CLIENT,
        start=_nano(attempt.started + offset),
        end=_nano(ended + offset),
        attributes=attributes,
        error=error,
    )


def _attempt_error(attempt: Attempt) -> str | None:
    """For a client any status from 400 is an error (semantic conventions for HTTP); who left made none."""
    if attempt.error == "cancelled":
        return None
    if attempt.error is not None:
        return attempt.error
    return f"answered {attempt.status}" if attempt.status is not None and attempt.status >= 400 else None


def _nano(seconds: float) -> int:
    return int(seconds * 1e9)
