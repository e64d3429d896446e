"""Times compared from histograms."""

from bisect import bisect_left
from math import exp
from random import Random

import pytest

from moonpool.contracts.release_stats import BOUNDS, BUCKETS, Times
from moonpool.upgrade.times import TimesComparison, shift_of


def times(*seconds: float) -> Times:
    cells: dict[int, int] = {}
    for value in seconds:
        index = bisect_left(BOUNDS, value)
        cells[index] = cells.get(index, 0) + 1
    return Times(count=len(seconds), sum=sum(seconds), cells=cells)


def drawn(random: Random, middle: float, count: int = 20, tail: float = 0.0) -> Times:
    found = []
    for _ in range(count):
        slow = 10.0 if random.random() < tail else 1.0
        found.append(slow * middle * exp(random.gauss(0.0, 0.4)))
    return times(*found)


def compared(
    old: float, new: float, *, margin: float = 0.1, tail: float = 0.0, windows: int = 60
) -> TimesComparison:
    random, comparison = Random(4), TimesComparison.begin("first token", margin)
    for _ in range(windows):
        comparison.observe(drawn(random, old), drawn(random, new, tail=tail), True)
    return comparison


@pytest.mark.parametrize(("margin", "shift"), [(0.0, 0), (0.1, 1), (0.189, 1), (0.2, 2), (1.0, 4)])
def test_a_margin_is_rounded_up_to_what_histograms_tell(margin: float, shift: int) -> None:
    assert shift_of(margin) == shift


def test_alike() -> None:
    view = compared(0.4, 0.4).view(0.05)

    assert view.verdict == "same"
    assert view.low is not None
    assert view.high is not None
    assert view.low < 0.0 < view.high


def test_slower_and_by_how_much() -> None:
    view = compared(0.4, 0.8).view(0.05)

    assert view.verdict == "worse"
    assert view.effect == pytest.approx(1.0, rel=0.1)
    assert view.old == pytest.approx(0.4, rel=0.1)
    assert view.new == pytest.approx(0.8, rel=0.1)


def test_faster() -> None:
    assert compared(0.8, 0.4).view(0.05).verdict == "better"


def test_a_tail_alone_is_seen() -> None:
    comparison = compared(0.4, 0.4, tail=0.1)

    assert comparison.view(0.05).verdict == "worse"
    assert comparison.old.quantile(0.5) == pytest.approx(comparison.new.quantile(0.5) or 0.0, rel=0.2)


def test_within_the_margin() -> None:
    assert compared(0.4, 0.5, margin=0.41).view(0.05).verdict == "same"


def test_without_a_past_there_is_no_level_to_be_beyond() -> None:
    comparison = TimesComparison.begin("first token", 0.0)
    comparison.observe(times(*[0.1] * 19), times(*[9.0] * 50), True)

    assert comparison.worse.evidence.p == 1.0


def test_what_is_longer_than_the_last_bucket_is_beyond_all_levels_but_itself() -> None:
    comparison = TimesComparison.begin("first token", 0.0)
    for _ in range(10):
        comparison.observe(times(*[9_999.0] * 30), times(*[9_999.0] * 30), True)

    assert list(comparison.old.cells) == [BUCKETS - 1]
    assert comparison.view(0.05).verdict == "same"


def test_one_sided_windows_say_nothing() -> None:
    comparison = TimesComparison.begin("token gap", 0.1)
    for _ in range(50):
        comparison.observe(times(0.1, 0.2), Times(), True)
    view = comparison.view(0.05)

    assert (view.new, view.effect, view.low, view.p, view.verdict) == (None, None, None, 1.0, "")
