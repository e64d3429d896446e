"""Several expositions as one valid exposition."""

from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.parser import text_string_to_metric_families

from moonpool.services.monitoring.exposition import merge

MODULES = {"chat-0": "chat", "auth-0": "auth"}


def exposition(requests: float) -> bytes:
    registry = CollectorRegistry()
    counter = Counter("calls", "Calls \\ with\nlines", ["route", "instance"], registry=registry)
    counter.labels('/a"b\\c\n', "mine").inc(requests)
    Gauge("memory_bytes", "Memory", registry=registry).set(1.5)
    Histogram("seconds", "Time", registry=registry, buckets=(0.1, 1.0)).observe(0.5)
    return generate_latest(registry)


def samples(text: bytes) -> dict[tuple[str, str, str], float]:
    """Values by sample name, instance and `le`."""
    return {
        (sample.name, sample.labels["instance"], sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_families_are_declared_once_and_samples_labelled() -> None:
    merged, faults = merge({"chat-0": exposition(2), "auth-0": exposition(3)}, MODULES)
    assert faults == []
    text = merged.decode()
    for declaration in ("# TYPE calls_total counter", "# TYPE seconds histogram", "# HELP memory_bytes"):
        assert text.count(declaration) == 1
    values = samples(merged)
    assert values["calls_total", "chat-0", ""] == 2
    assert values["calls_total", "auth-0", ""] == 3
    assert values["seconds_bucket", "auth-0", "1.0"] == 1
    assert values["seconds_bucket", "auth-0", "0.1"] == 0
    assert 'module="chat"' in text
    assert 'exported_instance="mine"' in text
    assert 'route="/a\\"b\\\\c\\n"' in text


def test_a_family_stands_together() -> None:
    merged, _ = merge({"chat-0": exposition(1), "auth-0": exposition(1)}, MODULES)
    lines = [line for line in merged.decode().splitlines() if line.startswith("memory_bytes")]
    text = merged.decode()
    assert len(lines) == 2
    assert "\n".join(lines) in text


def test_what_cannot_be_read_is_left_out_and_told() -> None:
    merged, faults = merge({"chat-0": exposition(1), "auth-0": b"a{ 1\n\xff"}, MODULES)
    assert {instance for _, instance, _ in samples(merged)} == {"chat-0"}
    assert len(faults) == 1
    assert faults[0].startswith("auth-0: ")


def test_a_type_that_contradicts_is_left_out_and_told() -> None:
    gauge, counter = b"# TYPE x gauge\nx 1\n", b"# TYPE x histogram\nx_count 1\nx_sum 1\n"
    merged, faults = merge({"auth-0": gauge, "chat-0": counter}, MODULES)
    assert list(samples(merged)) == [("x", "auth-0", "")]
    assert faults == ["chat-0: x is a histogram, elsewhere a gauge"]


async def test_signed_calls_get_all_and_scrapers_the_process_own(
    monitoring: Any, probe: Any, kit: Any
) -> None:
    probe.modules = [kit.module("chat")]
    probe.expositions = {"chat-0": exposition(4)}
    answer = await monitoring.call("GET", "/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE_LATEST
    assert samples(answer.content)["calls_total", "chat-0", ""] == 4
    own = await monitoring.client.get("/metrics")
    assert "calls_total" not in own.text
    assert "moonpool_monitoring_records_total" in own.text
