"""Tokens an answer and money a token, compared by blocks."""

from random import Random

import pytest

from moonpool.contracts.release_stats import ReleaseCounts
from moonpool.upgrade.costs import (
    BLOCK,
    CostComparison,
    compare_money,
    compare_tokens,
    money_of,
    tokens_of,
    unpriced,
)


def counts(ended: int, tokens: int, errors: int = 0) -> ReleaseCounts:
    return ReleaseCounts(
        service="inference", release="v", started=ended, ended=ended, errors=errors, tokens=tokens
    )


def compared(factor: float, *, windows: int = 40, errors: int = 0) -> CostComparison:
    random, comparison = Random(6), compare_tokens(0.1)
    for _ in range(windows):
        old = sum(random.randrange(50, 150) for _ in range(BLOCK))
        new = sum(int(factor * random.randrange(50, 150)) for _ in range(BLOCK))
        comparison.observe(tokens_of(counts(BLOCK + errors, old, errors)), tokens_of(counts(BLOCK, new)))
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
    comparison = compare_tokens(0.1)
    for _ in range(BLOCK):
        comparison.observe(tokens_of(counts(10, 1_000)), tokens_of(counts(1, 200)))

    assert comparison.pairs == 1
    assert comparison.view(0.01).effect == pytest.approx(1.0)


def test_where_no_tokens_are_counted_nothing_is_said() -> None:
    comparison = compare_tokens(0.1)
    for _ in range(50):
        comparison.observe(tokens_of(counts(BLOCK, 0)), tokens_of(counts(BLOCK, 0)))
    view = comparison.view(0.01)

    assert (view.old, view.new, view.effect, view.p, view.verdict) == (None, None, None, 1.0, "")


def paid(nano: int | None, *, answers: int = BLOCK, tokens: int = 100) -> ReleaseCounts:
    """`answers` of `tokens` each, at so many nano-units a token; None: without a price."""
    all_tokens = answers * tokens
    found = counts(answers, all_tokens)
    if nano is not None:
        found.priced, found.priced_tokens, found.cost = answers, all_tokens, nano * all_tokens
    return found


def in_money(old: int | None, new: int | None, *, windows: int = 40, **more: int) -> CostComparison:
    comparison = compare_money(0.1)
    for _ in range(windows):
        comparison.observe(money_of(paid(old)), money_of(paid(new, **more)))
    return comparison


def test_twice_as_dear_is_worse_and_told_as_prices_are_written() -> None:
    view = in_money(1_100, 2_200).view(0.0025)

    assert (view.name, view.verdict) == ("cost", "worse")
    assert (view.old, view.new) == (pytest.approx(1.1), pytest.approx(2.2))
    assert view.effect == pytest.approx(1.0)
    assert in_money(2_200, 1_100).view(0.0025).verdict == "better"
    assert in_money(1_100, 1_150).view(0.0025).verdict == "same"


def test_a_wordy_release_is_no_dearer_by_the_token() -> None:
    assert in_money(1_100, 1_100, tokens=300).view(0.0025).verdict == "same"


def test_an_unpriced_release_is_not_taken_for_one_that_costs_nothing() -> None:
    for old, new in ((None, 2_200), (1_100, None), (None, None)):
        comparison = in_money(old, new)
        view = comparison.view(0.0025)
        assert (view.effect, view.p, view.verdict) == (None, 1.0, "")

    tokens = compare_tokens(0.1)
    tokens.observe(tokens_of(paid(None)), tokens_of(paid(2_200)))
    assert unpriced(in_money(None, 2_200), tokens) == (
        "no price is known of the old release: tokens are compared"
    )
    assert unpriced(in_money(None, None), tokens).startswith("no price is known of either release")
    assert unpriced(in_money(1_100, 2_200), tokens) == ""
    assert unpriced(in_money(None, None), compare_tokens(0.1)) == ""


def test_what_is_rounded_to_nothing_divides_nothing() -> None:
    dearer, alike, cheaper = (
        in_money(old, new).view(0.0025) for old, new in ((0, 2_200), (0, 0), (2_200, 0))
    )

    assert (dearer.verdict, dearer.effect, dearer.old) == ("worse", None, 0.0)
    assert (alike.verdict, alike.effect) == ("", None)
    assert (cheaper.verdict, cheaper.effect) == ("better", None)


def test_answers_without_a_price_do_not_make_those_with_one_cheaper() -> None:
    comparison = compare_money(0.1)
    for _ in range(40):
        mixed = paid(1_100)
        mixed.add(paid(None, answers=200))
        comparison.observe(money_of(paid(1_100)), money_of(mixed))

    view = comparison.view(0.0025)
    assert (view.verdict, view.new) == ("same", pytest.approx(1.1))
