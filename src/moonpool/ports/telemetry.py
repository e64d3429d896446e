"""Spans of requests, on their way to whoever collects traces (OpenTelemetry's model of them)."""

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

import msgspec

Value = str | int | float | bool | Sequence[str]
Attributes = Mapping[str, Value]


class SpanKind(IntEnum):
    """As OTLP numbers them."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


class SpanEvent(NamedTuple):
    """`at` is Unix nanoseconds."""

    name: str
    at: int
    attributes: Attributes


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Ids are hex digits (core/trace.py); times Unix nanoseconds. `error` says what failed; None: nothing
    did that is to be told as this side's fault."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    flags: int = 1
    trace_state: str = ""
    name: str
    kind: SpanKind
    start: int
    end: int
    attributes: Attributes = {}
    events: Sequence[SpanEvent] = ()
    error: str | None = None


MakeSpans = Callable[[], Sequence[Span]]


class SpanExporter(Protocol):
    """Never raises, never waits, holds a bounded number; what does not fit is counted and dropped."""

    exported: int
    """Spans taken by the collector so far."""
    dropped: int
    """What was submitted and will not get there."""

    def submit(self, make: MakeSpans) -> None:
        """Export what `make` returns. It is called later and in another thread, so that a request pays
        for an entry in a queue only: it may read only what does not change any more."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...
