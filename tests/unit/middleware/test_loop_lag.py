"""How late timers are."""

import asyncio
import time

from prometheus_client import CollectorRegistry

from moonpool.middleware import loop_lag
from moonpool.middleware.loop_lag import LoopLag


async def test_a_blocked_loop_is_seen(monkeypatch) -> None:
    monkeypatch.setattr(loop_lag, "INTERVAL", 0.001)
    lag, registry = LoopLag(), CollectorRegistry()
    registry.register(lag)
    await lag.start()
    await asyncio.sleep(0)
    time.sleep(0.03)
    while not registry.get_sample_value("moonpool_event_loop_lag_seconds_count"):
        await asyncio.sleep(0)
    await lag.stop()
    assert (registry.get_sample_value("moonpool_event_loop_lag_seconds_sum") or 0) >= 0.025


async def test_the_worst_is_of_the_time_between_two_scrapes() -> None:
    lag = LoopLag()
    lag.observe(0.2)
    lag.observe(0.1)

    def worst() -> float:
        return next(f for f in lag.collect() if "worst" in f.name).samples[0].value

    assert (worst(), worst()) == (0.2, 0.0)


async def test_after_its_end_it_looks_no_more() -> None:
    lag = LoopLag()
    await lag.stop()
    await lag.start()
    await lag.stop()
    assert lag._timer is None
