"""An upgrade as people and programs see it: where it is, what it waits for, both releases' numbers. Pure."""

from moonpool.contracts.routing import FULL
from moonpool.contracts.upgrades import (
    ExperimentView,
    Numbers,
    Phase,
    PhaseView,
    Side,
    UpgradeView,
    VerdictView,
)
from moonpool.upgrade.experiment import conclude
from moonpool.upgrade.gates import ReleaseSeen, Seen, Verdict
from moonpool.upgrade.reports import Reports
from moonpool.upgrade.state import Outcome, State
from moonpool.upgrade.store import Upgrade
from moonpool.upgrade.strategies import Course


def upgrade_view(
    upgrade: Upgrade, seen: Seen, reports: Reports, *, trouble: str, now: float, monotonic: float
) -> UpgradeView:
    state, course = upgrade.state, upgrade.course
    old, new = reports.numbers(monotonic)
    weight = seen.weight
    if state.ended:  # what it came to: the world has gone on since
        weight = FULL if state.outcome is Outcome.PROMOTED else 0
    return UpgradeView(
        id=upgrade.id,
        service=upgrade.service,
        strategy=course.strategy,
        phase=state.phase,
        outcome=state.outcome if state.ended else Outcome.RUNNING,
        step=state.stop,
        steps=len(course.stops),
        reason=state.reason,
        waiting_for="" if state.ended else trouble or waiting_for(course, state, seen, now),
        old=_side(course.old, FULL - weight, seen.old, old),
        new=_side(course.new, weight, seen.new, new),
        verdict=_verdict(course, state, reports),
        path=path(course, state),
        started_by=upgrade.started_by,
        started_at=upgrade.started_at,
        since=state.since,
        ended_at=upgrade.ended_at,
        plan=upgrade.plan,
        version=upgrade.version,
    )


def _side(release: str, weight: int, seen: ReleaseSeen, numbers: Numbers) -> Side:
    return Side(
        release=release, weight=weight * 100 / FULL, replicas=seen.wanted, ready=seen.ready, numbers=numbers
    )


def _verdict(course: Course, state: State, reports: Reports) -> VerdictView:
    stop = course.stops[state.stop] if course.stops else None
    return reports.verdict(stop.sample if stop else 0)


# ── the way ────────────────────────────────────────────────────────────────────────────────────────


def path(course: Course, state: State) -> tuple[PhaseView, ...]:
    """The stops of the way, with where the upgrade is."""
    stops: list[tuple[Phase, int, str]] = [(Phase.PREFLIGHT, 0, "preflight"), (Phase.STAGE, 0, "stage")]
    if course.shadow is not None:
        stops.append((Phase.SHADOW, 0, f"shadow {course.shadow.share * 100 / FULL:g} %"))
    if course.withdraw:
        stops.append((Phase.WITHDRAWING, 0, "withdraw"))
    else:
        stops += [
            (Phase.CANARY, index, f"{stop.weight * 100 / FULL:g} %")
            for index, stop in enumerate(course.stops)
        ]
        stops += [(Phase.PROMOTE, 0, "promote"), (Phase.DRAIN, 0, f"drain {course.old}")]
        stops.append((Phase.OBSERVE, 0, "observe"))
    stops.append((Phase.DONE, 0, "done"))
    if state.outcome is Outcome.ROLLED_BACK:
        back = "now" if not state.ended else "past"
        return (
            *(PhaseView(title=title, state="past") for phase, _, title in stops[:2]),
            PhaseView(title="roll back", state=back),
            PhaseView(title="rolled back", state="now" if state.ended else "ahead"),
        )
    here = _index([(phase, index) for phase, index, _ in stops], state)
    return tuple(
        PhaseView(title=title, state="past" if place < here else "now" if place == here else "ahead")
        for place, (_, _, title) in enumerate(stops)
    )


def _index(stops: list[tuple[Phase, int]], state: State) -> int:
    wanted = (state.acting, state.stop if state.acting is Phase.CANARY else 0)
    return stops.index(wanted) if wanted in stops else 0


# ── what it waits for ──────────────────────────────────────────────────────────────────────────────


def waiting_for(course: Course, state: State, seen: Seen, now: float) -> str:
    """What has to be so for the upgrade to go on, in words."""
    if state.phase is Phase.PAUSED:
        return "a person: resume, promote or abort"
    if state.phase is Phase.STAGE:
        return f"{course.new} to be ready: {seen.new.ready} of {course.stage}"
    if state.phase in (Phase.ROLLING_BACK, Phase.WITHDRAWING):
        return _back(course, seen)
    if state.phase is Phase.DRAIN:
        return (
            f"{course.old} to get nothing any more, and to end what it has ({seen.old.left} processes left)"
        )
    if state.effective_since is None and state.phase is not Phase.PREFLIGHT:
        return f"the rules to be followed everywhere, and {course.new} to be ready for them"
    held = now - (state.effective_since or state.since)
    match state.phase:
        case Phase.SHADOW if course.shadow is not None:
            return _gates(held, course.shadow.soak, seen, course.shadow.sample)
        case Phase.CANARY:
            stop = course.stops[state.stop]
            waits = _gates(held, stop.soak, seen, stop.sample)
            return waits or ("the experiment to be concluded" if stop.hold else "")
        case Phase.PROMOTE:
            return _span("the window", held, course.keep_old)
        case Phase.OBSERVE:
            return _span("the last look", held, course.observe)
    return ""


def _back(course: Course, seen: Seen) -> str:
    if not seen.old.ready:
        return f"{course.old} to be ready again"
    if seen.weight or not seen.off:
        return f"everything to go to {course.old}"
    return f"{course.new} to get nothing any more, and to end what it has ({seen.new.left} processes left)"


def _gates(held: float, soak: float, seen: Seen, sample: int) -> str:
    waits = [_span("time", held, soak)] if held < soak else []
    if seen.sample < sample:
        waits.append(f"requests: {seen.sample} of {sample}")
    if not waits and (
        seen.verdict.kind is Verdict.UNDECIDED or (seen.verdict.kind is Verdict.NO_DATA and sample)
    ):
        waits.append(f"evidence: {seen.verdict.reason}")
    return "; ".join(waits)


def _span(what: str, held: float, wanted: float) -> str:
    return f"{what}: {max(0.0, held):.0f} of {wanted:g} s"


# ── the result of an experiment ────────────────────────────────────────────────────────────────────


def experiment_view(upgrade: Upgrade, view: UpgradeView, now: float) -> ExperimentView:
    stops = upgrade.course.stops
    split = stops[-1].weight * 100 / FULL if stops else view.new.weight
    exposed = view.old.numbers.requests + view.new.numbers.requests
    result = conclude(
        view.verdict,
        old=upgrade.course.old,
        new=upgrade.course.new,
        exposed=exposed,
        plan=upgrade.plan.analysis,
    )
    return ExperimentView(
        upgrade=upgrade.id,
        service=upgrade.service,
        running=not upgrade.state.ended,
        seconds=(upgrade.ended_at or now) - upgrade.started_at,
        split=split,
        exposed=exposed,
        old=view.old,
        new=view.new,
        verdict=view.verdict,
        recommendation=result.recommendation,
        reason=result.reason,
        more=result.more,
    )
