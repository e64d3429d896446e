"""Capacity: how much of the traffic the ready instances bear."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.contracts.upgrades import HardLimits
from moonpool.upgrade.gates import ReleaseSeen, Seen, capacity_share, fault_of_new, steady


@pytest.mark.parametrize(
    ("wanted", "new", "old", "share"),
    [
        (5000, 4, 4, 5000),
        (5000, 1, 4, 2500),  # never above what is ready
        (5000, 0, 4, 0),
        (500, 4, 0, 10_000),  # all that is left
        (0, 4, 3, 2500),  # the old ones cannot carry everything
        (10_000, 4, 1, 10_000),
        (5000, 1, 1, 5000),  # both are short: each its part
    ],
)
def test_the_weight_that_instances_bear(wanted: int, new: int, old: int, share: int) -> None:
    assert capacity_share(wanted, new=new, old=old, replicas=4, full=4, now=1, back=False) == share


def test_on_the_way_back_half_of_the_old_ones_are_enough() -> None:
    assert capacity_share(0, new=4, old=2, replicas=4, full=4, now=1, back=True) == 0
    assert capacity_share(0, new=4, old=1, replicas=4, full=4, now=1, back=True) == 7500


def test_with_nothing_ready_everything_stays() -> None:
    assert capacity_share(5000, new=0, old=0, replicas=1, full=1, now=1234, back=False) == 1234


@given(
    wanted=st.integers(0, 10_000),
    new=st.integers(0, 9),
    old=st.integers(0, 9),
    replicas=st.integers(1, 9),
    full=st.integers(1, 9),
    back=st.booleans(),
)
def test_no_share_goes_to_what_is_not_ready(
    wanted: int, new: int, old: int, replicas: int, full: int, back: bool
) -> None:
    share = capacity_share(wanted, new=new, old=old, replicas=replicas, full=full, now=0, back=back)
    assert 0 <= share <= 10_000
    if new == 0 < old:
        assert share == 0
    if old == 0 < new:
        assert share == 10_000
    if new >= replicas and old >= full:
        assert share == wanted


def test_crash_loops_count_from_the_start_of_the_upgrade() -> None:
    limits = HardLimits(restarts=3)
    seen = Seen(new=ReleaseSeen(wanted=1, restarts=5))
    assert fault_of_new(limits, seen, 3) == ""
    assert "crash loop" in fault_of_new(limits, seen, 2)
    assert "no GPU" in fault_of_new(limits, Seen(new=ReleaseSeen(failure="no GPU")), 0)


def test_a_clock_that_was_set_back_starts_no_rush() -> None:
    assert not steady(1000.0, 10.0, 900.0)
    assert steady(1000.0, 10.0, 1010.0)
    assert not steady(None, 0.0, 1010.0)
