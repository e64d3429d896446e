"""What an answer of some age is good for, by policy and by what the client asks."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.contracts.manifest import Cached
from moonpool.middleware.freshness import MOST, NO_WISHES, Use, Wishes, judge, wishes

POLICY = Cached(fresh=100, while_revalidating=50, if_error=500)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, NO_WISHES),
        (b"", NO_WISHES),
        (b"no-store", Wishes(no_store=True)),
        (b"No-Cache, ONLY-IF-CACHED", Wishes(no_cache=True, only_if_cached=True)),
        (b"max-age=10", Wishes(max_age=10)),
        (b'max-age="10"', Wishes(max_age=10)),
        (b"max-age=10, max-age=20", Wishes(max_age=10)),
        (b"max-age", Wishes(max_age=0)),
        (b"max-age=-5", Wishes(max_age=0)),
        (b"max-age=99999999999999999", Wishes(max_age=MOST)),
        (b"max-age=\xb2", Wishes(max_age=0)),
        (b"min-fresh=7,max-stale=9", Wishes(min_fresh=7, max_stale=9)),
        (b"max-stale", Wishes(max_stale=math.inf)),
        (b"max-stale=x", Wishes(max_stale=0)),
        (b"something=else, , =, ;", NO_WISHES),
    ],
)
def test_wishes(header: bytes | None, expected: Wishes) -> None:
    assert wishes(header) == expected


@pytest.mark.parametrize(
    ("age", "wished", "use"),
    [
        (0, NO_WISHES, Use.FRESH),
        (99.9, NO_WISHES, Use.FRESH),
        (100, NO_WISHES, Use.RENEW),
        (150, NO_WISHES, Use.RENEW),
        (151, NO_WISHES, Use.ON_ERROR),
        (600, NO_WISHES, Use.ON_ERROR),
        (601, NO_WISHES, Use.NONE),
        (10, Wishes(max_age=10), Use.FRESH),
        (11, Wishes(max_age=10), Use.ON_ERROR),
        (0, Wishes(max_age=0), Use.ON_ERROR),
        (90, Wishes(min_fresh=9), Use.FRESH),
        (90, Wishes(min_fresh=11), Use.ON_ERROR),
        (120, Wishes(min_fresh=1), Use.ON_ERROR),
        (190, Wishes(max_stale=100), Use.ACCEPTED),
        (201, Wishes(max_stale=100), Use.ON_ERROR),
        (10_000, Wishes(max_stale=math.inf), Use.ACCEPTED),
        (120, Wishes(max_stale=math.inf, max_age=110), Use.ON_ERROR),
    ],
)
def test_judge(age: float, wished: Wishes, use: Use) -> None:
    assert judge(age, POLICY, wished) is use


@given(st.binary(max_size=60))
def test_whatever_is_sent(header: bytes) -> None:
    found = wishes(header)
    assert found.max_age >= 0
    assert 0 <= found.min_fresh <= MOST


@given(
    st.floats(0, 10_000),
    st.floats(0, 10_000),
    st.builds(Wishes, max_age=st.floats(0, 1000), min_fresh=st.floats(0, 1000)),
)
def test_older_is_never_better(age: float, more: float, wished: Wishes) -> None:
    order = [Use.FRESH, Use.RENEW, Use.ON_ERROR, Use.NONE]
    younger, older = judge(age, POLICY, wished), judge(age + more, POLICY, wished)
    assert order.index(younger) <= order.index(older)
