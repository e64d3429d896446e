"""Periods of budgets: days and months of UTC, or for ever."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.contracts.budgets import Period, begun, renews


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("period", "now", "since", "until"),
    [
        (Period.DAY, "2026-11-23T00:00:00", "2026-11-23", "2026-11-24"),
        (Period.DAY, "2026-11-23T23:59:59", "2026-11-23", "2026-11-24"),
        (Period.MONTH, "2026-11-23T12:00:00", "2026-11-01", "2026-12-01"),
        (Period.MONTH, "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        (Period.MONTH, "2028-02-29T12:00:00", "2028-02-01", "2028-03-01"),
    ],
)
def test_when_it_began_and_when_it_renews(period: Period, now: str, since: str, until: str) -> None:
    assert begun(period, at(now)) == at(since)
    assert renews(period, at(since)) == at(until)


def test_a_total_never_renews() -> None:
    assert (begun(Period.TOTAL, 1.7e9), renews(Period.TOTAL, 0)) == (0, None)


@given(st.sampled_from([Period.DAY, Period.MONTH]), st.floats(0, 4e9))
def test_every_moment_is_in_one_period(period: Period, now: float) -> None:
    since = begun(period, now)
    until = renews(period, since)
    assert until is not None
    assert since <= now < until
    assert begun(period, until) == until
    assert begun(period, until - 1) == since
