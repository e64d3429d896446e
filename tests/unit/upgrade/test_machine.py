"""Single steps of the state machine, where the model's random walks come by too rarely."""

import pytest
from msgspec.structs import replace

from moonpool.contracts.upgrades import Phase, Strategy, UpgradePlan
from moonpool.upgrade.gates import Judgement, ReleaseSeen, Seen, Verdict
from moonpool.upgrade.machine import command, step
from moonpool.upgrade.state import Command, Outcome, Refused, State
from moonpool.upgrade.strategies import compile_course
from moonpool.upgrade.wishes import Ensure, Route

NOW = 1_000_000.0
COURSE = compile_course("user", "v1", "v2", 2, UpgradePlan(steps=(10.0, 50.0), soak_seconds=10))
UP = ReleaseSeen(wanted=2, ready=2, left=2)
GONE = ReleaseSeen()
AWAY = ReleaseSeen(wanted=2, ready=0, left=2)
BACK = State(phase=Phase.ROLLING_BACK, since=NOW, staged=True, outcome=Outcome.ROLLED_BACK)


def canary(**fields) -> State:
    return State(
        **{"phase": Phase.CANARY, "since": NOW - 60, "effective_since": NOW - 60, "staged": True, **fields}
    )


def at(weight: int, **fields) -> Seen:
    return Seen(**{"new": UP, "old": UP, "weight": weight, "routed_for": 60.0, "sample": 1000, **fields})


FINE = Judgement(Verdict.FINE)


def test_a_step_that_went_well_leads_to_the_next() -> None:
    done = step(COURSE, canary(), at(1000, verdict=FINE), NOW)
    assert (done.state.phase, done.state.stop) == (Phase.CANARY, 1)
    assert done.effects == (Ensure("v2", 1), Route(5000))
    assert done.state.stratum == 1


@pytest.mark.parametrize(
    ("fields", "phase"),
    [
        ({"sample": 49}, Phase.CANARY),
        ({"verdict": Judgement(Verdict.UNDECIDED)}, Phase.CANARY),
        ({"verdict": Judgement(Verdict.NO_DATA)}, Phase.CANARY),
        ({"verdict": Judgement(Verdict.INVALID, "split")}, Phase.PAUSED),
        ({"verdict": Judgement(Verdict.WORSE, "errors")}, Phase.ROLLING_BACK),
        ({"breach": "50 % errors"}, Phase.ROLLING_BACK),
        ({"killed": True, "off": True}, Phase.ROLLING_BACK),
        ({"new": ReleaseSeen(wanted=1, ready=1, left=1, restarts=3)}, Phase.ROLLING_BACK),
        ({"new": ReleaseSeen(wanted=1, failure="no GPU")}, Phase.ROLLING_BACK),
    ],
)
@pytest.mark.parametrize("paused", [False, True])
def test_what_holds_a_step_and_what_ends_it(fields: dict, phase: Phase, paused: bool) -> None:
    state = canary()
    if paused:
        state = replace(state, phase=Phase.PAUSED, paused_from=Phase.CANARY)
    after = step(COURSE, state, at(1000, **{"verdict": FINE, **fields}), NOW).state
    if paused and phase is not Phase.ROLLING_BACK:
        phase = Phase.PAUSED
    assert after.phase is phase


def test_doubt_that_stays_and_data_that_do_not_come_pause() -> None:
    old = canary(since=NOW - 901)
    for verdict in (Verdict.UNDECIDED, Verdict.NO_DATA):
        after = step(COURSE, old, at(1000, verdict=Judgement(verdict)), NOW).state
        assert (after.phase, after.paused_from) == (Phase.PAUSED, Phase.CANARY)


def test_on_the_way_back_traffic_goes_first_and_the_process_last() -> None:
    first = step(COURSE, BACK, at(5000), NOW)
    assert first.effects == (Route(0, killed=True),)
    routed = at(0, off=True, new_quiet=False, routed_for=1.0)
    assert step(COURSE, BACK, routed, NOW).effects == ()
    quiet = replace(routed, new_quiet=True)
    assert step(COURSE, BACK, quiet, NOW).effects == (Ensure("v2", 0),)
    gone = replace(quiet, new=GONE)
    assert step(COURSE, BACK, gone, NOW).effects == (Route(0, only="v1"),)
    done = step(COURSE, BACK, replace(gone, only="v1"), NOW)
    assert (done.state.phase, done.effects) == (Phase.ROLLED_BACK, ())


def test_the_new_release_is_not_stopped_while_the_old_is_away() -> None:
    seen = at(0, off=True, new_quiet=True, old=AWAY)
    assert Ensure("v2", 0) not in step(COURSE, BACK, seen, NOW).effects


def test_gateways_that_do_not_tell_are_given_time() -> None:
    seen = at(0, off=True, new_quiet=None, routed_for=4.0)
    assert step(COURSE, BACK, seen, NOW).effects == ()
    assert step(COURSE, BACK, replace(seen, routed_for=5.0), NOW).effects == (Ensure("v2", 0),)
    deaf = replace(seen, new_quiet=False, routed_for=60.0)
    assert step(COURSE, BACK, deaf, NOW).effects == (Ensure("v2", 0),)


def test_a_rollback_that_cannot_finish_asks_a_person() -> None:
    seen = at(10_000, old=AWAY)
    assert step(COURSE, BACK, seen, NOW + 299).state.phase is Phase.ROLLING_BACK
    stuck = step(COURSE, BACK, seen, NOW + 300).state
    assert (stuck.phase, stuck.paused_from) == (Phase.PAUSED, Phase.ROLLING_BACK)
    assert command(COURSE, stuck, Command.RESUME, "", NOW).phase is Phase.ROLLING_BACK
    kept = command(COURSE, stuck, Command.PROMOTE, "", NOW)
    assert (kept.phase, kept.forced, kept.outcome) == (Phase.PROMOTE, True, Outcome.RUNNING)
    worse = replace(seen, verdict=Judgement(Verdict.WORSE, "errors"))
    assert step(COURSE, kept, worse, NOW + 1).state.phase is Phase.DRAIN


def test_the_old_release_has_ended_before_the_new_one_is_watched_alone() -> None:
    state = State(phase=Phase.DRAIN, since=NOW, staged=True)
    seen = at(10_000, only="v2", old_quiet=True)
    draining = step(COURSE, state, seen, NOW)
    assert (draining.state.phase, draining.effects) == (Phase.DRAIN, (Ensure("v1", 0),))
    leaving = replace(seen, old=ReleaseSeen(wanted=0, ready=0, left=1))
    assert step(COURSE, draining.state, leaving, NOW).state.phase is Phase.DRAIN
    assert step(COURSE, draining.state, replace(seen, old=GONE), NOW).state.phase is Phase.OBSERVE


def test_a_lost_instance_costs_its_share_at_once_and_the_upgrade_later() -> None:
    state = canary(stop=1)
    seen = at(5000, new=ReleaseSeen(wanted=1, ready=0, left=1))
    lost = step(COURSE, state, seen, NOW)
    assert lost.state.phase is Phase.CANARY
    assert Route(0) in lost.effects
    assert lost.state.effective_since is None
    assert step(COURSE, lost.state, seen, NOW + 5).state.phase is Phase.ROLLING_BACK


def test_preflight_faults_end_it_with_nothing_done() -> None:
    done = step(COURSE, State(since=NOW), Seen(faults=("no such release",)), NOW)
    assert (done.state.phase, done.state.reason, done.effects) == (Phase.ROLLED_BACK, "no such release", ())


def test_an_experiment_that_may_conclude_does_when_it_is_better() -> None:
    plan = UpgradePlan(strategy=Strategy.AB, conclude=True, soak_seconds=1)
    course = compile_course("user", "v1", "v2", 2, plan)
    better = at(5000, verdict=Judgement(Verdict.BETTER, "faster"))
    assert step(course, canary(), better, NOW).state.phase is Phase.PROMOTE
    assert step(course, canary(), replace(better, verdict=FINE), NOW).state.phase is Phase.CANARY


@pytest.mark.parametrize(
    ("phase", "word", "after"),
    [
        (Phase.STAGE, Command.PAUSE, Phase.PAUSED),
        (Phase.STAGE, Command.PROMOTE, None),
        (Phase.SHADOW, Command.PROMOTE, Phase.PROMOTE),
        (Phase.CANARY, Command.PROMOTE, Phase.PROMOTE),
        (Phase.PROMOTE, Command.PROMOTE, Phase.DRAIN),
        (Phase.DRAIN, Command.PROMOTE, None),
        (Phase.OBSERVE, Command.PROMOTE, Phase.DONE),
        (Phase.CANARY, Command.RESUME, None),
        (Phase.OBSERVE, Command.ABORT, Phase.ROLLING_BACK),
        (Phase.ROLLING_BACK, Command.ABORT, None),
        (Phase.WITHDRAWING, Command.PAUSE, None),
        (Phase.DONE, Command.ABORT, None),
    ],
)
def test_words(phase: Phase, word: Command, after: Phase | None) -> None:
    state = State(phase=phase, since=NOW, effective_since=NOW, staged=True)
    if after is None:
        with pytest.raises(Refused) as refused:
            command(COURSE, state, word, "", NOW)
        assert refused.value.hint
    else:
        assert command(COURSE, state, word, "", NOW).phase is after
