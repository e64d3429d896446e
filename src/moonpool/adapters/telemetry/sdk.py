"""Our spans as the OpenTelemetry SDK's, and its OTLP/HTTP exporter. Imported in the exporting thread only
(otlp.py): it costs a twentieth of a second and some megabytes."""

import logging
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from moonpool import __version__
from moonpool.ports.telemetry import Span
from moonpool.ports.telemetry import SpanKind as Kind

_SCOPE = InstrumentationScope("moonpool", __version__)
_KINDS = {
    Kind.INTERNAL: SpanKind.INTERNAL,
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
}
_ERRORS = 240
"""Characters of a status' description."""


class Sender:
    """Raises ValueError for a URL that is none."""

    def __init__(self, url: str, resource: Mapping[str, str]) -> None:
        if url and (urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname):
            raise ValueError(f"{url!r} is no http:// or https:// URL")
        self._said = _FirstWord()
        self._said.attach()
        # What the operator names in OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME goes before ours, and ours
        # before what the SDK makes up.
        given = OTELResourceDetector().detect()
        self.resource = Resource.create().merge(Resource(dict(resource))).merge(given)
        self._exporter = OTLPSpanExporter(endpoint=url or None)

    def send(self, spans: Sequence[Span]) -> str | None:
        """None when the collector has taken them, else why not. Waits; retries for the exporter's time-out
        (OTEL_EXPORTER_OTLP_TIMEOUT)."""
        self._said.text = ""
        result = self._exporter.export([readable(span, self.resource) for span in spans])
        return None if result is SpanExportResult.SUCCESS else self._said.text or "no reason was given"

    def stop(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _FirstWord(logging.Handler):
    """Keeps the first thing that the SDK says of a failure (the ones after it are of its retries), instead of
    a line for every one."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = self.text or record.getMessage()

    def attach(self) -> None:
        logger = logging.getLogger("opentelemetry")
        logger.handlers = [self]
        logger.propagate = False


def readable(span: Span, resource: Resource) -> ReadableSpan:
    """As the SDK's exporters take it."""
    trace_id = int(span.trace_id, 16)
    state = TraceState.from_header([span.trace_state]) if span.trace_state else None
    own = SpanContext(trace_id, int(span.span_id, 16), False, TraceFlags(span.flags), state)
    parent = None
    if span.parent_id:
        parent = SpanContext(
            trace_id, int(span.parent_id, 16), span.kind is Kind.SERVER, TraceFlags(span.flags)
        )
    failed = span.error is not None
    return ReadableSpan(
        name=span.name,
        context=own,
        parent=parent,
        resource=resource,
        attributes=span.attributes,
        events=[Event(event.name, event.attributes, event.at) for event in span.events],
        kind=_KINDS[span.kind],
        status=Status(StatusCode.ERROR, (span.error or "")[:_ERRORS]) if failed else Status(StatusCode.UNSET),
        start_time=span.start,
        end_time=span.end,
        instrumentation_scope=_SCOPE,
    )
