"""Waits grow, differ, and end in time."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.contracts.resilience import RetryPolicy
from moonpool.middleware.backoff import Backoff

POLICY = RetryPolicy()


@given(st.floats(0.0, 10.0), st.floats(0.0, 1.0, exclude_max=True))
def test_a_wait_is_between_the_base_and_three_times_the_last_one(previous: float, chance: float) -> None:
    seconds = Backoff(POLICY, lambda: chance).next(previous)
    assert 0.025 <= seconds <= min(1.0, max(0.025, previous * 3.0))


def test_the_first_wait_is_the_base_and_the_longest_grow_to_the_cap() -> None:
    backoff = Backoff(POLICY, lambda: 0.999999)
    waits = [0.0]
    for _ in range(6):
        waits.append(backoff.next(waits[-1]))
    assert waits[1:4] == pytest.approx([0.025, 0.075, 0.225], rel=1e-3)
    assert waits[5] == waits[6] == 1.0


def test_callers_that_failed_together_do_not_come_back_together() -> None:
    random = Random(7)
    backoff = Backoff(POLICY, random.random)
    seconds = sorted(backoff.next(0.3) for _ in range(1000))
    assert seconds[0] < 0.05
    assert seconds[-1] > 0.85
    assert 0.4 < seconds[500] < 0.53


@pytest.mark.parametrize(
    ("retry_after", "remaining", "expected"),
    [
        (None, None, 0.025),
        (None, 0.03, 0.025),
        (None, 0.025, None),  # nothing would be left to try in
        (None, -1.0, None),
        (2.0, None, 2.0125),
        (2.0, 2.5, 2.0125),
        (2.0, 2.0, None),  # the upstream wins within the deadline only
        (0.0, 1.0, 0.0125),
        (-3.0, 1.0, 0.0125),
    ],
)
def test_the_upstream_wins_within_the_deadline(
    retry_after: float | None, remaining: float | None, expected: float | None
) -> None:
    waited = Backoff(POLICY, lambda: 0.5).wait(0.0, retry_after, remaining)
    assert waited == (None if expected is None else pytest.approx(expected))


def test_the_numbers_are_settings() -> None:
    backoff = Backoff(RetryPolicy(backoff_base=0.5, backoff_longest=0.8), lambda: 0.9)
    assert backoff.next(0.0) == 0.5
    assert backoff.next(0.5) == 0.8


def test_nobody_is_kept_waiting_for_longer_than_the_longest() -> None:
    backoff = Backoff(RetryPolicy(wait_longest=10.0), lambda: 0.0)
    assert backoff.wait(0.0, 10.0, None) == 10.0
    assert backoff.wait(0.0, 10.1, None) is None
