"""Rates of answers that take their time."""

from moonpool.contracts.release_stats import ReleaseCounts
from moonpool.upgrade.rates import Backlog, RateComparison
from moonpool.upgrade.sequential import RateTest


def counts(started: int, ended: int) -> ReleaseCounts:
    return ReleaseCounts(service="chat", release="v2", started=started, ended=ended)


def test_what_is_under_way_counts_as_begun() -> None:
    backlog = Backlog()

    assert backlog.begun(counts(10, 0)) == 10
    assert backlog.begun(counts(10, 4)) == 10
    assert not backlog.mature
    assert backlog.begun(counts(0, 16)) == 0
    assert (backlog.pending, backlog.mature) == (0, True)


def test_repeated_attempts_end_more_often_than_requests_begin() -> None:
    backlog = Backlog()

    assert backlog.begun(counts(10, 13)) == 13
    assert backlog.pending == 0
    assert backlog.begun(counts(10, 10)) == 10


def test_quick_failures_of_a_release_that_has_just_begun_are_held_against_all_it_began() -> None:
    """A twentieth fails at once, as with the old one; the others take half a minute."""
    backlog, comparison = Backlog(), RateComparison(name="errors", worse=RateTest())
    for _ in range(20):
        new = counts(20, 1)
        comparison.observe((20, 1), (1, 1), backlog.begun(new), backlog.mature)

    assert comparison.new_hits == comparison.new  # all that ended has failed
    assert comparison.worse.evidence.p > 0.5


def test_failures_of_seconds_in_which_nothing_began_are_not_forgotten() -> None:
    comparison = RateComparison(name="errors", worse=RateTest())
    comparison.observe((20, 0), (3, 3), 0, False)
    assert comparison.carried == 3
    comparison.observe((20, 0), (0, 0), 2, False)
    assert comparison.carried == 1

    assert comparison.worse.evidence.p < 1.0


def test_praise_waits_for_the_slow_answers() -> None:
    comparison = RateComparison(name="errors", worse=RateTest())
    for _ in range(50):
        comparison.observe((20, 5), (20, 0), 25, False)
    assert comparison.view(0.05).verdict == "same"
    for _ in range(50):
        comparison.observe((20, 5), (20, 0), 20, True)
    view = comparison.view(0.05)

    assert view.verdict == "better"
    assert (view.old, view.new, view.effect) == (0.25, 0.0, -0.25)
    assert view.high is not None
    assert view.high < 0


def test_nothing_seen_is_nothing_said() -> None:
    view = RateComparison(name="errors", worse=RateTest()).view(0.05)

    assert (view.old, view.new, view.effect, view.low, view.p, view.verdict) == (
        None,
        None,
        None,
        None,
        1.0,
        "",
    )
