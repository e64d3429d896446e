"""Medians, ratios and what they look like."""

from io import StringIO

import pytest
from bench import report
from bench.results import Results
from rich.console import Console


@pytest.fixture
def results() -> Results:
    found = Results(["direct", "nginx", "Envoy", "Moonpool"])
    for nginx, envoy, moonpool in ((300.0, 100.0, 110.0), (310.0, 90.0, 120.0), (900.0, 95.0, 10.0)):
        found.add("nginx", {"requests_per_core_s": nginx, "failed": 0.0})
        found.add("Envoy", {"requests_per_core_s": envoy, "failed": 1.0})
        found.add("Moonpool", {"requests_per_core_s": moonpool, "failed": 2.0})
    return found


def test_the_middle_is_the_median_so_that_one_odd_round_does_not_count(results: Results) -> None:
    assert results.middle("requests_per_core_s", "nginx") == 310.0
    assert results.middle("requests_per_core_s", "direct") is None


def test_failures_of_all_rounds_are_summed(results: Results) -> None:
    assert results.middle("failed", "Moonpool") == 6.0


def test_a_ratio_needs_both_sides(results: Results) -> None:
    assert results.ratio("requests_per_core_s", "Moonpool", "Envoy") == pytest.approx(110 / 95)
    assert results.ratio("requests_per_core_s", "Moonpool", "direct") is None
    assert results.ratio("failed", "Moonpool", "nginx") is None


def test_added_latency_is_taken_round_by_round() -> None:
    results = Results(["direct", "Envoy"])
    for direct, envoy in ((1.0, 1.5), (5.0, 5.4), (1.0, 1.6)):
        results.add("direct", {"p50_ms": direct})
        results.add("Envoy", {"p50_ms": envoy})

    results.add_differences("direct")

    assert results.middle("added_p50_ms", "Envoy") == pytest.approx(0.5)
    assert results.middle("added_p50_ms", "direct") is None


def test_the_table_has_a_column_a_peer_and_one_a_ratio(results: Results) -> None:
    out = Console(file=StringIO(), width=160)

    report.show(results, ["a note"], out)

    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert "Moonpool/Envoy" in text
    assert "1.16" in text
    assert "a note" in text


def test_a_peer_that_is_absent_has_no_ratio() -> None:
    assert report.headings(Results(["direct", "Moonpool"])) == ["", "direct", "Moonpool", "goal"]
