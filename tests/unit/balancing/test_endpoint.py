"""What is known of an endpoint: a peak counts at once and fades, a failure is charged for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.balancing.endpoint import (
    DECAY_SECONDS,
    FAILURE_DECAY_SECONDS,
    FAILURE_FLOOR,
    FAILURE_PENALTY,
    Endpoint,
)
from moonpool.http.address import Address


def endpoint() -> Endpoint:
    return Endpoint(Address.parse("unix:/run/a.sock"), instance="a-0", release="v1")


def test_a_peak_counts_at_once() -> None:
    one = endpoint()
    one.observe(0.010, now=100.0)
    one.observe(2.0, now=100.1)
    assert one.latency(100.1) == 2.0


def test_it_fades_with_the_time_constant() -> None:
    one = endpoint()
    one.observe(2.0, now=100.0)
    assert one.latency(100.0 + DECAY_SECONDS) == pytest.approx(2.0 / math.e)


def test_a_quick_call_pulls_it_down_by_as_much_as_time_has_passed() -> None:
    one = endpoint()
    one.observe(1.0, now=100.0)
    one.observe(0.0, now=100.0)
    assert one.latency(100.0) == 1.0
    one.observe(0.5, now=100.0 + DECAY_SECONDS)
    keep = 1 / math.e
    assert one.latency(100.0 + DECAY_SECONDS) == pytest.approx(keep * 1.0 + (1 - keep) * 0.5)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 60)), min_size=1, max_size=30))
def test_the_estimate_stays_between_nothing_and_the_worst(calls: list[tuple[float, float]]) -> None:
    one, now = endpoint(), 1000.0
    for seconds, pause in calls:
        now += pause
        one.observe(seconds, now)
        assert 0.0 <= one.latency(now) <= max(seconds for seconds, _ in calls) + 1e-9
        assert one.latency(now) >= seconds - 1e-9 or one.latency(now) > 0.0


def test_failing_fast_does_not_look_like_being_fast() -> None:
    one = endpoint()
    assert one.penalty(100.0) == 0.0
    one.fail(100.0)
    assert one.penalty(100.0) == FAILURE_FLOOR
    slow = endpoint()
    slow.observe(1.0, 100.0)
    slow.fail(100.0)
    assert slow.penalty(100.0) == FAILURE_PENALTY


def test_failures_add_up_and_are_forgiven() -> None:
    one = endpoint()
    one.fail(100.0)
    one.fail(100.0)
    assert one.penalty(100.0) == pytest.approx(2 * FAILURE_FLOOR)
    assert one.penalty(100.0 + FAILURE_DECAY_SECONDS) == pytest.approx(2 * FAILURE_FLOOR / math.e)
    assert one.penalty(100.0 + 20 * FAILURE_DECAY_SECONDS) < 1e-6
