"""What an experiment recommends, and that it does not take silence for sameness."""

import msgspec
import pytest

from moonpool.contracts.upgrades import AnalysisPlan, MetricView, VerdictView
from moonpool.upgrade.experiment import Recommendation, Result, conclude, matters


def errors(low: float, high: float, verdict: str = "same") -> MetricView:
    return MetricView(
        name="errors", old=0.005, new=0.006, effect=(low + high) / 2, low=low, high=high, verdict=verdict
    )


def first(low: float, high: float, verdict: str = "same") -> MetricView:
    return MetricView(
        name="first token", old=0.4, new=0.3, effect=(low + high) / 2, low=low, high=high, verdict=verdict
    )


def said(kind: str, *metrics: MetricView, reason: str = "") -> Result:
    return conclude(
        VerdictView(kind=kind, reason=reason, metrics=metrics), old="v1", new="v2", exposed=10_000
    )


@pytest.mark.parametrize(
    ("kind", "metrics", "expected"),
    [
        ("no_data", (), Recommendation.WAIT),
        ("invalid", (errors(0.1, 0.2, "worse"),), Recommendation.DISCARD),
        ("worse", (errors(0.01, 0.02, "worse"),), Recommendation.KEEP),
        ("better", (errors(-0.02, -0.01, "better"),), Recommendation.PROMOTE),
        ("fine", (errors(-0.004, 0.004), first(-0.09, 0.09)), Recommendation.EITHER),
        ("fine", (errors(-0.004, 0.012), first(-0.09, 0.09)), Recommendation.WAIT),
        ("undecided", (errors(-0.004, 0.004),), Recommendation.WAIT),
    ],
)
def test_recommendations(kind: str, metrics: tuple[MetricView, ...], expected: Recommendation) -> None:
    result = said(kind, *metrics)

    assert result.recommendation is expected
    assert result.exposed == 10_000
    assert result.reason


def test_nothing_found_is_not_nothing_there() -> None:
    wide, narrow = said("fine", errors(-0.02, 0.02)), said("fine", errors(-0.006, 0.006))

    assert "not ruled out" in wide.reason
    assert wide.more is not None
    assert narrow.more is not None
    assert wide.more == pytest.approx(150_000, rel=0.02)  # four times as narrow: sixteen times as many in all
    assert narrow.more < wide.more


def test_what_would_take_more_than_a_million_requests_is_not_counted_out() -> None:
    result = said("fine", errors(-0.9, 0.9))

    assert (result.recommendation, result.more) == (Recommendation.WAIT, None)
    assert result.reason.endswith("More than a million more would: no measurable difference at this traffic.")
    assert (said("fine", errors(-0.03, 0.03)).more or 0) < 1_000_000


def test_what_is_better_in_one_and_worse_in_another_is_a_persons_to_weigh() -> None:
    result = said("worse", errors(0.01, 0.02, "worse"), first(-0.4, -0.2, "better"))

    assert result.recommendation is Recommendation.KEEP
    assert result.telling == ("errors", "first token")
    assert "yours to weigh" in result.reason
    assert "errors 0.60% instead of 0.50%" in result.reason


def test_a_measure_without_an_interval_leaves_it_open() -> None:
    blurred = MetricView(name="tokens", old=100.0, new=101.0, effect=0.01, verdict="same")
    result = said("fine", errors(-0.001, 0.001), blurred)

    assert (result.recommendation, result.more) == (Recommendation.WAIT, None)


def test_a_measure_that_was_not_taken_is_left_out() -> None:
    assert (
        said("fine", errors(-0.001, 0.001), MetricView(name="tokens")).recommendation is Recommendation.EITHER
    )


def test_what_matters_is_the_plans() -> None:
    plan = msgspec.convert({"error_margin": 0.02, "first_token_margin": 0.5}, AnalysisPlan)

    assert matters("errors", plan) == 0.02
    assert matters("errors", AnalysisPlan()) == 0.005
    assert matters("first token", plan) == 0.5
    assert matters("tokens", plan) == plan.cost_margin
