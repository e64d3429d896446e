"""Tokens an answer, compared by blocks."""

from random import Random

import pytest

from moonpool.contracts.release_stats import ReleaseCounts
from moonpool.upgrade.costs import BLOCK, CostComparison


def counts(ended: int, tokens: int, errors: int = 0) -> ReleaseCounts:
    return ReleaseCounts(
        service="inference", release="v", started=ended, ended=ended, errors=errors, tokens=tokens
    )


def compared(factor: float, *, windows: int = 40, errors: int = 0) -> CostComparison:
    random, comparison = Random(6), CostComparison(margin=0.1)
    for _ in range(windows):
        old = sum(random.randrange(50, 150) for _ in range(BLOCK))
        new = sum(int(factor * random.randrange(50, 150)) for _ in range(BLOCK))
        comparison.observe(counts(BLOCK + errors, old, errors), counts(BLOCK, new))
    return comparison


def test_alike_dearer_cheaper() -> None:
    assert compared(1.0).view(0.01).verdict == "same"
    assert compared(1.4).view(0.01).verdict == "worse"
    assert compared(0.6).view(0.01).verdict == "better"


def test_how_much() -> None:
    view = compared(1.4).view(0.01)

    assert view.effect == pytest.approx(0.4, abs=0.06)
    assert (view.low or 0.0) < 0.4 < (view.high or 0.0)
    assert view.new == pytest.approx(140, rel=0.05)


def test_a_release_does_not_look_cheap_for_failing() -> None:
    assert compared(1.0, errors=20).view(0.01).verdict == "same"


def test_small_windows_are_put_together() -> None:
    comparison = CostComparison()
    for _ in range(BLOCK):
        comparison.observe(counts(10, 1_000), counts(1, 200))

    assert comparison.pairs == 1
    assert comparison.view(0.01).effect == pytest.approx(1.0)


def test_where_no_tokens_are_counted_nothing_is_said() -> None:
    comparison = CostComparison()
    for _ in range(50):
        comparison.observe(counts(BLOCK, 0), counts(BLOCK, 0))
    view = comparison.view(0.01)

    assert (view.old, view.new, view.effect, view.p, view.verdict) == (None, None, None, 1.0, "")
