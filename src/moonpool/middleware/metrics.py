"""Request metrics that cost a dictionary look-up and a few additions on the hot path.

prometheus_client's own counters take a lock and several calls for every observation; these are plain
numbers, touched in the event loop only, that a collector turns into its families when it is scraped.
"""

from bisect import bisect_left
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Seconds."""


class Histogram:
    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        total, buckets = 0, []
        for bound, count in zip((*BUCKETS, float("inf")), self.counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
        return buckets


class RequestMetrics(Collector):
    """Rate, errors, duration by route, release and status; time to first token and between tokens."""

    def __init__(self) -> None:
        self.active = 0
        self._requests: dict[tuple[str, str, int], Histogram] = {}
        self._first: dict[tuple[str, str], Histogram] = {}
        self._gap: dict[tuple[str, str], Histogram] = {}
        self._flags: dict[str, int] = {}

    def finished(self, route: str, release: str, status: int, seconds: float) -> None:
        key = (route, release, status)
        histogram = self._requests.get(key)
        if histogram is None:
            histogram = self._requests[key] = Histogram()
        histogram.observe(seconds)

    def first_byte(self, route: str, release: str, seconds: float) -> None:
        """For streamed answers: the time to the first event, which for a model is its first token."""
        key = (route, release)
        histogram = self._first.get(key)
        if histogram is None:
            histogram = self._first[key] = Histogram()
        histogram.observe(seconds)

    def gaps(self, route: str, release: str) -> Histogram:
        """Where the times between the chunks of one streamed answer go."""
        key = (route, release)
        histogram = self._gap.get(key)
        if histogram is None:
            histogram = self._gap[key] = Histogram()
        return histogram

    def flagged(self, flag: str) -> None:
        self._flags[flag] = self._flags.get(flag, 0) + 1

    def collect(self) -> Iterable[Metric]:
        active = GaugeMetricFamily("moonpool_requests_active", "Requests under way, bodies included.")
        active.add_metric([], self.active)
        yield active
        requests = HistogramMetricFamily(
            "moonpool_request_seconds",
            "Whole requests, to the end of the body.",
            labels=["route", "release", "status"],
        )
        for (route, release, status), histogram in self._requests.items():
            requests.add_metric([route, release, str(status)], histogram.cumulative(), histogram.sum)
        yield requests
        yield _family("moonpool_first_token_seconds", "To the first streamed chunk.", self._first)
        yield _family("moonpool_token_gap_seconds", "Between streamed chunks.", self._gap)
        flags = CounterMetricFamily("moonpool_request_flags", "Requests by response flag.", labels=["flag"])
        for flag, count in self._flags.items():
            flags.add_metric([flag], count)
        yield flags


def _family(name: str, text: str, source: dict[tuple[str, str], Histogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=["route", "release"])
    for (route, release), histogram in source.items():
        family.add_metric([route, release], histogram.cumulative(), histogram.sum)
    return family
