"""How late the event loop comes to what is due: the first sign of a process that has too much to do.

Every INTERVAL a timer is set and its lateness measured. While the loop does nothing else that is about a
millisecond (the clock of its timers); what blocks it (a long computation, a slow disk) delays every request
by as much.
"""

import asyncio
from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from moonpool.middleware.metrics import Histogram

INTERVAL = 0.25
"""Seconds. Four looks a second cost about 20 µs of CPU."""


class LoopLag(Collector):
    """A component, and a collector to register."""

    def __init__(self) -> None:
        self._lateness = Histogram()
        self._worst = 0.0
        self._due = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._set()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def observe(self, seconds: float) -> None:
        self._lateness.observe(seconds)
        self._worst = max(self._worst, seconds)

    def _set(self) -> None:
        assert self._loop is not None
        self._due = self._loop.time() + INTERVAL
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        assert self._loop is not None
        self.observe(max(0.0, self._loop.time() - self._due))
        self._set()

    def collect(self) -> Iterable[Metric]:
        lateness = HistogramMetricFamily("moonpool_event_loop_lag_seconds", "How late timers are run.")
        lateness.add_metric([], self._lateness.cumulative(), self._lateness.sum)
        yield lateness
        worst = GaugeMetricFamily(
            "moonpool_event_loop_lag_worst_seconds", "The latest timer since the last scrape."
        )
        worst.add_metric([], self._worst)
        self._worst = 0.0
        yield worst
