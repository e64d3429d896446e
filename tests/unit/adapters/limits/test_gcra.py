"""The arithmetic on its own, and that the store's inlined form of it says the same."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.adapters.limits.gcra import ahead_of, remaining, wait_for
from moonpool.adapters.limits.memory import MemoryLimits
from moonpool.core.clock import ManualClock
from moonpool.ports.limits import Rate

RATE = Rate("k", "tokens", 60, 10)
"""One a second, ten at once."""


@pytest.mark.parametrize(
    ("tat", "reserved", "units", "wait", "left"),
    [
        (0.0, 0, 1, 0.0, 10),
        (100.0, 0, 10, 0.0, 10),
        (103.0, 0, 7, 0.0, 7),
        (103.0, 0, 8, 1.0, 7),
        (110.0, 0, 1, 1.0, 0),
        (130.0, 0, 1, 21.0, 0),
        (100.0, 4, 6, 0.0, 6),
        (100.0, 4, 7, 1.0, 6),
        (103.0, 4, 4, 1.0, 3),
        (100.0, 0, 11, math.inf, 10),
    ],
)
def test_at_a_hundred_seconds(tat: float, reserved: int, units: int, wait: float, left: int) -> None:
    ahead = ahead_of(tat, 100.0, RATE, reserved)
    assert wait_for(ahead, RATE, units) == pytest.approx(wait, abs=0.01)
    assert remaining(ahead, RATE) == left


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 12), st.integers(0, 15)), max_size=30))
def test_the_store_says_the_same(steps: list[tuple[float, int, int]]) -> None:
    clock = ManualClock()
    limits = MemoryLimits(clock)
    tat = 0.0
    for seconds, units, used in steps:
        clock.advance(seconds)
        now = clock.monotonic()
        ahead = ahead_of(tat, now, RATE)
        verdict = limits.take("l", (), (), (RATE,), units)
        assert (verdict.refused is None) == (wait_for(ahead, RATE, units) == 0.0)
        if verdict.refused is None:
            assert verdict.remaining == pytest.approx(remaining(ahead + units * RATE.interval, RATE), abs=1)
            limits.settle(verdict, used)
            tat = max(tat, now) + used * RATE.interval
