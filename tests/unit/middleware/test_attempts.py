"""GCRA over failed attempts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.core.clock import ManualClock
from moonpool.middleware import attempts
from moonpool.middleware.attempts import FailedAttempts


def test_a_burst_then_one_at_a_time() -> None:
    clock = ManualClock()
    failed = FailedAttempts(clock, per_minute=30, burst=3)
    for _ in range(3):
        assert failed.blocked("a") is None
        failed.failed("a")
    assert failed.blocked("a") == pytest.approx(2.0)
    clock.advance(1.5)
    assert failed.blocked("a") == pytest.approx(0.5)
    clock.advance(0.51)
    assert failed.blocked("a") is None
    failed.failed("a")
    assert failed.blocked("a") is not None


def test_others_are_not_stopped() -> None:
    failed = FailedAttempts(ManualClock(), per_minute=30, burst=1)
    failed.failed("a")
    assert failed.blocked("a") is not None
    assert failed.blocked("b") is None


def test_patience_gives_the_burst_back() -> None:
    clock = ManualClock()
    failed = FailedAttempts(clock, per_minute=60, burst=5)
    for _ in range(5):
        failed.failed("a")
    clock.advance(60.0)
    for _ in range(5):
        assert failed.blocked("a") is None
        failed.failed("a")
    assert failed.blocked("a") is not None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "CAPACITY", 10)
    failed = FailedAttempts(ManualClock())
    for n in range(50):
        failed.failed(str(n))
    assert len(failed._arrival) == 10


@given(st.lists(st.floats(0, 10), max_size=200), st.integers(1, 60), st.integers(1, 10))
def test_never_more_than_burst_and_rate_in_any_window(
    pauses: list[float], per_minute: int, burst: int
) -> None:
    clock = ManualClock()
    failed = FailedAttempts(clock, per_minute=per_minute, burst=burst)
    times = []
    for pause in pauses:
        clock.advance(pause)
        wait = failed.blocked("a")
        if wait is None:
            failed.failed("a")
            times.append(clock.monotonic())
        else:
            assert 0 < wait <= 60.0 / per_minute + 1e-6
    for first in range(len(times)):
        for last in range(first, len(times)):
            allowed = burst + (times[last] - times[first]) * per_minute / 60.0 + 1e-6
            assert last - first + 1 <= allowed
