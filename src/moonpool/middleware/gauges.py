"""Metrics that are read where they already are, when they are scraped: the hot path pays nothing for them.

    gauges.add("moonpool_retry_budget", "Attempts left.", lambda: budget.available(now()))
    gauges.add("moonpool_breakers", "Endpoints by state.", by_state, labels=("state",))

A source is asked in the event loop's thread. One that fails is left out of that scrape and counted: the
others must still be seen, most of all when something is wrong.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Source = Callable[[], float | Mapping[Any, float]]
"""A number, or numbers by the values of the labels (a text for one label, a tuple for several)."""
Kind = Literal["gauge", "counter"]
ROWS = 500
"""Time series of one metric; what is beyond is left out, lest a mistake in labels floods the collector."""


class _Entry(NamedTuple):
    name: str
    help: str
    source: Source
    labels: tuple[str, ...]
    kind: Kind


class Gauges(Collector):
    """Register it once with the process's registry; add to it at any time."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._failures: dict[str, int] = {}

    def add(
        self, name: str, help: str, source: Source, labels: Iterable[str] = (), *, kind: Kind = "gauge"
    ) -> None:
        """`name` is without `_total` for a counter. Raises ValueError for a name that is there already."""
        if name in self._entries:
            raise ValueError(f"{name} is there already")
        self._entries[name] = _Entry(name, help, source, tuple(labels), kind)

    def collect(self) -> Iterable[Metric]:
        for entry in self._entries.values():
            try:
                yield _family(entry)
            except Exception:  # noqa: BLE001 - a source is others' code: it must not hide all other metrics
                self._failures[entry.name] = self._failures.get(entry.name, 0) + 1
        failures = CounterMetricFamily(
            "moonpool_metric_failures", "Sources that failed when scraped.", labels=["metric"]
        )
        for name, count in self._failures.items():
            failures.add_metric([name], count)
        yield failures


def _family(entry: _Entry) -> Metric:
    make = CounterMetricFamily if entry.kind == "counter" else GaugeMetricFamily
    family = make(entry.name, entry.help, labels=list(entry.labels))
    value = entry.source()
    if not isinstance(value, Mapping):
        family.add_metric([], value)
        return family
    for number, (labels, one) in enumerate(value.items()):
        if number == ROWS:
            break
        values = [labels] if isinstance(labels, str) else list(labels)
        if len(values) != len(entry.labels):  # the library would cut them, and two rows become one
            raise ValueError(f"{entry.name} has labels {entry.labels}, not {values}")
        family.add_metric(values, one)
    return family
