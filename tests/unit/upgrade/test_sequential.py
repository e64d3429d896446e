"""The tests hold their level however often one looks, exactly where that can be computed."""

import math
from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moonpool.upgrade.sequential import Effect, RateTest, SignTest, SplitTest, mixed, word

ALPHA = 0.05


def binomial(count: int, rate: float) -> list[float]:
    return [math.comb(count, k) * rate**k * (1.0 - rate) ** (count - k) for k in range(count + 1)]


def sampler(count: int, rate: float, random: Random) -> Callable[[], int]:
    steps = list(accumulate(binomial(count, rate)))
    return lambda: min(bisect_left(steps, random.random()), count)


@settings(deadline=None, max_examples=60)
@given(
    old=st.integers(1, 8),
    new=st.integers(1, 8),
    old_rate=st.floats(0.001, 0.95),
    lower=st.floats(0.0, 1.0),
    margin=st.sampled_from([0.0, 0.01, 0.1]),
    base=st.floats(0.0, 1.0),
)
def test_a_window_is_worth_at_most_one_where_new_is_no_worse(
    old: int, new: int, old_rate: float, lower: float, margin: float, base: float
) -> None:
    """Exactly: the mean over all outcomes, whatever the old rate was thought to be."""
    new_rate = lower * min(old_rate + margin, 1.0)
    mean = 0.0
    for old_hits, chance in enumerate(binomial(old, old_rate)):
        for new_hits, other in enumerate(binomial(new, new_rate)):
            test = RateTest(margin=margin)
            test.observe(old, old_hits, new, new_hits, base)
            mean += chance * other * test.evidence.now
    assert mean <= 1.0 + 1e-6


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 30), share=st.floats(0.01, 0.99))
def test_a_split_as_it_should_be_is_worth_one(count: int, share: float) -> None:
    mean = 0.0
    for new, chance in enumerate(binomial(count, share)):
        test = SplitTest()
        test.observe(count - new, new, share)
        mean += chance * test.evidence.now
    assert mean == pytest.approx(1.0, abs=1e-6)


@settings(deadline=None)
@given(chance=st.floats(0.0, 0.5))
def test_a_fair_coin_wins_nothing(chance: float) -> None:
    mean = 0.0
    for above, weight in ((True, chance), (False, 1.0 - chance)):
        test = SignTest()
        test.observe(above)
        mean += weight * test.evidence.now
    assert mean <= 1.0 + 1e-9


@pytest.mark.parametrize(
    ("old", "new", "rate", "margin"), [(25, 25, 0.005, 0.0), (40, 4, 0.2, 0.0), (30, 10, 0.01, 0.005)]
)
def test_equal_rates_are_rarely_called_worse_when_looked_at_every_second(
    old: int, new: int, rate: float, margin: float
) -> None:
    random = Random(17)
    draw_old, draw_new = sampler(old, rate, random), sampler(new, rate + margin, random)
    false = 0
    for _ in range(150):
        test, count, hits = RateTest(margin=margin), 0, 0
        for _ in range(200):
            k = draw_old()
            test.observe(old, k, new, draw_new(), (hits + 0.5) / (count + 50.0))
            count, hits = count + old, hits + k
        false += test.evidence.p <= ALPHA
    assert false / 150 <= ALPHA


def test_weights_that_change_while_rates_drift_mislead_nobody() -> None:
    """Simpson's paradox: the new release gets most of its traffic when everything fails more often."""
    random = Random(3)
    test, count, hits = RateTest(), 0, 0
    early, late = sampler(45, 0.01, random), sampler(5, 0.01, random)
    bad_old, bad_new = sampler(5, 0.2, random), sampler(45, 0.2, random)
    totals = [0, 0, 0, 0]
    for second in range(120):
        n0, n1 = (45, 5) if second < 60 else (5, 45)
        k0, k1 = (early(), late()) if second < 60 else (bad_old(), bad_new())
        test.observe(n0, k0, n1, k1, (hits + 0.5) / (count + 50.0))
        count, hits = count + n0, hits + k0
        totals = [a + b for a, b in zip(totals, (n0, k0, n1, k1), strict=True)]
    assert totals[3] / totals[2] > 3 * totals[1] / totals[0]  # what a comparison of totals would see
    assert test.evidence.p > ALPHA


def test_what_is_missing_says_nothing() -> None:
    test = RateTest()
    test.observe(0, 0, 50, 50, 0.01)
    test.observe(50, 50, 0, 0, 0.01)

    assert test.evidence.p == 1.0


def test_requests_that_go_missing_break_the_split() -> None:
    random = Random(5)
    test, seconds = SplitTest(), 0
    while test.evidence.p > 0.001 and seconds < 600:
        seconds += 1
        draws = [random.random() < 0.05 for _ in range(50)]
        arrived = sum(1 for new in draws if new and random.random() < 0.7)
        test.observe(draws.count(False), arrived, 0.05)
    assert 30 < seconds < 600


def test_the_evidence_of_a_peak_is_not_lost_again() -> None:
    test = SignTest()
    for _ in range(10):
        test.observe(True)
    peak = test.evidence.p
    for _ in range(100):
        test.observe(False)

    assert test.evidence.p == peak < ALPHA
    assert test.evidence.now < 1.0


def test_no_number_is_out_of_bounds() -> None:
    test = RateTest()
    for _ in range(2_000):
        test.observe(1_000, 0, 1_000, 1_000, 0.0)
    for _ in range(4_000):
        test.observe(1_000, 1_000, 1_000, 0, 1.0)

    assert 0.0 <= test.evidence.p <= 1e-300
    assert math.isfinite(test.evidence.log)
    assert test.evidence.now == 0.0 or test.evidence.now > 0.0


def test_the_mean_of_logarithms() -> None:
    assert mixed([0.0, math.log(3.0)]) == pytest.approx(math.log(2.0))
    assert mixed([-600.0, 700.0]) == pytest.approx(700.0 - math.log(2.0))


def test_an_interval_holds_the_effect_at_all_times_and_closes_on_it() -> None:
    random = Random(11)
    missed, widths = 0, []
    for _ in range(60):
        effect, out = Effect(scale=0.1), False
        for _ in range(150):
            old = [random.gauss(0.0, 0.5) for _ in range(12)]
            new = [random.gauss(0.1, 0.5) for _ in range(4)]
            effect.observe(12, sum(old) / 12, 4, sum(new) / 4)
            low, high = effect.interval(0.25, 0.25, ALPHA) or (0.0, 0.0)
            out |= not low <= 0.1 <= high
        missed += out
        widths.append(high - low)
    assert missed <= 6
    assert max(widths) < 0.2


def test_an_interval_of_nothing() -> None:
    assert Effect(scale=0.1).interval(1.0, 1.0, ALPHA) is None
    assert Effect(scale=0.1).mean is None


def test_the_word_for_it() -> None:
    effect, quiet, loud = Effect(scale=0.1), SignTest().evidence, SignTest().evidence
    assert word(effect, quiet, quiet, ALPHA) == ""
    effect.observe(1, 0.0, 1, 0.0)
    loud.becomes(10.0)
    assert word(effect, quiet, quiet, ALPHA) == "same"
    assert word(effect, loud, quiet, ALPHA) == "worse"
    assert word(effect, quiet, loud, ALPHA) == "better"
