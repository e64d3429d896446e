"""The exporter: bounded, silent to requests, and told once when the collector is away.

The SDK's sender is replaced here; tests/integration/telemetry has the real one and a real receiver."""

import threading

import pytest

from moonpool.adapters.telemetry import otlp, sdk
from moonpool.adapters.telemetry.otlp import (
    BATCH,
    PAUSES,
    OtlpSpans,
    disabled_by_environment,
    traces_url,
    wanted_by_environment,
)
from moonpool.ports.telemetry import Span, SpanKind

SPAN = Span(trace_id="a" * 32, span_id="b" * 16, name="n", kind=SpanKind.SERVER, start=1, end=2)


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __getattr__(self, level: str):
        return lambda event, **fields: self.lines.append((level, event))


class Sender:
    """Answers as told, and tells when it has been asked."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.batches: list[int] = []
        self.asked = threading.Semaphore(0)
        self.free = threading.Event()
        self.free.set()

    def send(self, spans) -> str | None:
        self.asked.release()
        self.free.wait(5)
        self.batches.append(len(spans))
        return self.reason

    def stop(self) -> None: ...


@pytest.fixture
def sender(monkeypatch) -> Sender:
    one = Sender()
    monkeypatch.setattr(sdk, "Sender", lambda url, resource: one)
    monkeypatch.setattr(otlp, "INTERVAL", 0.0)
    return one


@pytest.fixture
def log() -> Log:
    return Log()


def one() -> list[Span]:
    return [SPAN]


async def test_all_that_was_submitted_is_sent_before_the_end_in_small_batches(sender, log) -> None:
    spans = OtlpSpans("http://collector:4318", {}, log)
    for _ in range(3 * BATCH + 1):
        spans.submit(one)
    await spans.stop()
    assert sum(sender.batches) == spans.exported == 3 * BATCH + 1
    assert max(sender.batches) <= BATCH
    assert (spans.dropped, log.lines) == (0, [])


async def test_without_a_span_there_is_no_thread(sender, log) -> None:
    before = threading.active_count()
    spans = OtlpSpans("http://collector:4318", {}, log)
    await spans.start()
    assert threading.active_count() == before
    await spans.stop()


async def test_a_full_queue_drops_and_counts(sender, log) -> None:
    sender.free.clear()
    spans = OtlpSpans("http://collector:4318", {}, log, queue=5)
    spans.submit(one)
    assert sender.asked.acquire(timeout=5)  # it hangs with the first in its hands
    for _ in range(20):
        spans.submit(one)
    assert spans.dropped == 15
    sender.free.set()
    await spans.stop()
    assert spans.exported == 6


async def test_an_absent_collector_is_told_once_and_left_alone_for_growing_times(sender, log) -> None:
    now = [100.0]
    spans = OtlpSpans("http://collector:4318", {}, log, now=lambda: now[0])
    sender.reason = "connection refused"

    def told() -> None:
        """Submit one, and wait until the thread is through with it."""
        dropped, exported = spans.dropped, spans.exported
        spans.submit(one)
        done = threading.Event()
        while (spans.dropped, spans.exported) == (dropped, exported):
            done.wait(0.001)

    for pause in (*PAUSES, PAUSES[-1]):
        told()
        tries = len(sender.batches)
        now[0] += pause - 0.01
        for _ in range(100):
            spans.submit(one)
        assert len(sender.batches) == tries
        now[0] += 0.02
    assert spans.dropped == (len(PAUSES) + 1) * 101
    sender.reason = None
    told()
    told()
    await spans.stop()
    assert spans.exported == 2
    assert log.lines == [
        ("warning", "spans are dropped: the collector takes none"),
        ("info", "spans are exported again"),
    ]


async def test_spans_that_cannot_be_made_do_not_end_the_others(sender, log) -> None:
    def broken() -> list[Span]:
        raise KeyError("x")

    spans = OtlpSpans("http://collector:4318", {}, log)
    for make in (one, broken, one):
        spans.submit(make)
    await spans.stop()
    assert (spans.exported, spans.dropped) == (2, 1)


async def test_a_url_that_is_none_ends_exporting_and_nothing_else(log, monkeypatch) -> None:
    monkeypatch.setattr(otlp, "INTERVAL", 0.0)
    spans = OtlpSpans("collector:4318", {}, log)
    spans.submit(one)
    thread = spans._thread
    assert thread is not None
    thread.join(5)
    spans.submit(one)
    await spans.stop()
    assert log.lines == [("error", "spans cannot be exported")]
    assert spans.exported == 0
    assert spans.dropped == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ""),
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
    ],
)
def test_the_path_of_otlp_http(given: str, expected: str) -> None:
    assert traces_url(given) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
    ],
)
def test_the_standard_environment(environment: dict[str, str], expected: bool) -> None:
    assert wanted_by_environment(environment) is expected
    assert not disabled_by_environment(environment)
    assert disabled_by_environment({**environment, "OTEL_SDK_DISABLED": "true"})
