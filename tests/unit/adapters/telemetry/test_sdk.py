"""Our spans as the SDK's."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanKind, StatusCode

from moonpool.adapters.telemetry.sdk import Sender, readable
from moonpool.ports.telemetry import Span, SpanEvent
from moonpool.ports.telemetry import SpanKind as Kind


def test_everything_is_carried_over() -> None:
    span = Span(
        trace_id="0" * 31 + "a",
        span_id="0" * 15 + "b",
        parent_id="0" * 15 + "c",
        trace_state="v=1",
        name="POST /x",
        kind=Kind.SERVER,
        start=10,
        end=20,
        attributes={"n": 1, "flags": ["UF", "DG"]},
        events=[SpanEvent("retry", 15, {"moonpool.verdict": "again"})],
        error="e" * 1000,
    )
    made = readable(span, Resource({"service.name": "x"}))
    assert made.context is not None
    assert made.parent is not None
    assert (made.context.trace_id, made.context.span_id, made.parent.span_id) == (10, 11, 12)
    assert made.parent.is_remote
    assert made.context.trace_state.get("v") == "1"
    assert (made.name, made.kind, made.start_time, made.end_time) == ("POST /x", SpanKind.SERVER, 10, 20)
    assert made.attributes == {"n": 1, "flags": ["UF", "DG"]}
    assert [(event.name, event.timestamp) for event in made.events] == [("retry", 15)]
    assert made.status.status_code is StatusCode.ERROR
    assert len(made.status.description or "") < 300


def test_no_error_is_unset_and_no_parent_is_none() -> None:
    made = readable(
        Span(trace_id="a" * 32, span_id="b" * 16, name="n", kind=Kind.CLIENT, start=1, end=2), Resource({})
    )
    assert made.parent is None
    assert made.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("url", ["collector:4318/v1/traces", "ftp://c/v1/traces", "http:///v1/traces"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no http"):
        Sender(url, {})


def test_the_operators_resource_goes_before_ours_and_ours_before_the_sdks(monkeypatch) -> None:
    ours = {"service.name": "moonpool-chat", "service.instance.id": "chat-0"}
    assert Sender("", ours).resource.attributes.items() >= ours.items()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=sea")
    attributes = Sender("", ours).resource.attributes
    assert (attributes["service.name"], attributes["service.instance.id"]) == ("mine", "chat-0")
    assert attributes["team"] == "sea"


def test_the_sdk_is_not_imported_before_the_first_span() -> None:
    program = """
import sys
import moonpool.asgi.app
import moonpool.wiring.telemetry
bad = [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
sys.exit(f"imported: {bad[:3]}" if bad else 0)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
