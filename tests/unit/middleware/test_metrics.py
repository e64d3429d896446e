"""What is scraped is what Prometheus' own parser understands."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from moonpool.middleware.metrics import BUCKETS, Histogram, RequestMetrics


def scrape(metrics: RequestMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    registry = CollectorRegistry()
    registry.register(metrics)
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_nothing_happened_yet() -> None:
    assert scrape(RequestMetrics()) == {("moonpool_requests_active", ()): 0.0}


def test_requests_by_route_release_and_status() -> None:
    metrics = RequestMetrics()
    metrics.active = 3
    metrics.finished("/v1/models", "v1", 200, 0.004)
    metrics.finished("/v1/models", "v1", 200, 0.2)
    metrics.finished("/v1/models", "v1", 500, 1000.0)
    samples = scrape(metrics)
    ok = (("release", "v1"), ("route", "/v1/models"), ("status", "200"))
    failed = (("release", "v1"), ("route", "/v1/models"), ("status", "500"))
    assert samples["moonpool_requests_active", ()] == 3
    assert samples["moonpool_request_seconds_count", ok] == 2
    assert samples["moonpool_request_seconds_sum", ok] == pytest.approx(0.204)
    assert samples["moonpool_request_seconds_bucket", (("le", "0.005"), *ok)] == 1
    assert samples["moonpool_request_seconds_bucket", (("le", "+Inf"), *ok)] == 2
    assert samples["moonpool_request_seconds_bucket", (("le", "120.0"), *failed)] == 0
    assert samples["moonpool_request_seconds_bucket", (("le", "+Inf"), *failed)] == 1


def test_tokens_and_flags() -> None:
    metrics = RequestMetrics()
    metrics.first_byte("/v1/chat/completions", "v1", 0.1)
    metrics.gaps("/v1/chat/completions", "v1").observe(0.02)
    metrics.gaps("/v1/chat/completions", "v1").observe(0.03)
    for flag in ("UH", "UH", "DC"):
        metrics.flagged(flag)
    samples = scrape(metrics)
    labels = (("release", "v1"), ("route", "/v1/chat/completions"))
    assert samples["moonpool_first_token_seconds_count", labels] == 1
    assert samples["moonpool_token_gap_seconds_count", labels] == 2
    assert samples["moonpool_request_flags_total", (("flag", "UH"),)] == 2
    assert samples["moonpool_request_flags_total", (("flag", "DC"),)] == 1


@pytest.mark.parametrize("bound", BUCKETS)
def test_a_bound_belongs_to_its_bucket(bound: float) -> None:
    histogram = Histogram()
    histogram.observe(bound)
    counts = dict(histogram.cumulative())
    assert counts[str(bound)] == 1
    assert counts["0.001"] == (1 if bound == 0.001 else 0)


def test_awkward_names_survive() -> None:
    metrics = RequestMetrics()
    metrics.finished('/a"b\\c', "v\n1", 200, 0.1)
    labels = (("release", "v\n1"), ("route", '/a"b\\c'), ("status", "200"))
    assert scrape(metrics)["moonpool_request_seconds_count", labels] == 1
