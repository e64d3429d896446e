"""Numbers are read when they are scraped, and one that cannot be read hides no other."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from moonpool.middleware.gauges import ROWS, Gauges


def scrape(gauges: Gauges) -> list[str]:
    registry = CollectorRegistry()
    registry.register(gauges)
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("# ")]


def test_numbers_labels_and_counters() -> None:
    gauges = Gauges()
    gauges.add("moonpool_a", "A.", lambda: 1.5)
    gauges.add("moonpool_b", "B.", lambda: {"x": 1, "y": 2}, ("state",))
    gauges.add("moonpool_c", "C.", lambda: {("x", "y"): 3}, ("one", "two"), kind="counter")
    assert scrape(gauges) == [
        "moonpool_a 1.5",
        'moonpool_b{state="x"} 1.0',
        'moonpool_b{state="y"} 2.0',
        'moonpool_c_total{one="x",two="y"} 3.0',
    ]


def test_a_source_is_asked_at_every_scrape_only() -> None:
    calls: list[int] = []
    gauges = Gauges()
    gauges.add("moonpool_a", "A.", lambda: calls.append(1) or len(calls))
    assert calls == []
    registry = CollectorRegistry()
    registry.register(gauges)
    seen = len(calls)
    for number in (1, 2):
        generate_latest(registry)
        assert len(calls) == seen + number


def test_one_that_fails_is_counted_and_the_others_are_seen() -> None:
    gauges = Gauges()
    gauges.add("moonpool_bad", "Bad.", lambda: 1 / 0)
    gauges.add("moonpool_wrong", "Wrong.", lambda: {("too", "many"): 1}, ("state",))
    gauges.add("moonpool_good", "Good.", lambda: 1)
    lines = scrape(gauges)
    assert "moonpool_good 1.0" in lines
    assert 'moonpool_metric_failures_total{metric="moonpool_bad"} 1.0' in lines
    assert 'moonpool_metric_failures_total{metric="moonpool_wrong"} 1.0' in lines


def test_bounded_and_unique() -> None:
    gauges = Gauges()
    gauges.add("moonpool_many", "Many.", lambda: {str(n): n for n in range(ROWS * 2)}, ("n",))
    assert len(scrape(gauges)) == ROWS
    with pytest.raises(ValueError, match="there already"):
        gauges.add("moonpool_many", "Many.", lambda: 1)
