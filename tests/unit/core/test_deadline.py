import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.core.deadline import Deadline
from moonpool.core.errors import DeadlineExceeded

SECONDS = st.floats(0, 1e6)


@pytest.mark.parametrize(("now", "left"), [(0.0, 5.0), (3.0, 2.0), (5.0, 0.0), (9.0, 0.0)])
def test_remaining_is_never_negative(now: float, left: float) -> None:
    assert Deadline.after(0.0, 5.0).remaining(now) == left


@pytest.mark.parametrize("now", [5.0, 5.1, 1e9])
def test_nothing_begins_that_cannot_finish(now: float) -> None:
    with pytest.raises(DeadlineExceeded):
        Deadline(5.0).bound(now, 1.0)


@given(at=SECONDS, now=SECONDS, seconds=SECONDS)
def test_bound_is_the_shorter(at: float, now: float, seconds: float) -> None:
    deadline = Deadline(at)
    if at <= now:
        return
    assert deadline.bound(now, seconds) == min(seconds, deadline.remaining(now))
