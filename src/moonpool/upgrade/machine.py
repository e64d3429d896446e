"""The upgrade as a state machine: pure, so that every way through it can be tried.

    preflight ─► stage ─► (shadow) ─► canary 1 … n ─► promote ─► drain ─► observe ─► done
                            │           │   ▲ resume     │          │        │
                            │           ▼   │            │          │        │
                            │          paused            │          │        │
                            ▼           │                ▼          ▼        ▼
                       withdrawing      └──────────► rolling back ◄──────────┘
                            ▼                             ▼
                           done                       rolled back

`step` is asked again and again, with what is seen of the world. It makes at most one transition, which its
caller keeps before it acts, and tells what differs between the world and what the state wants of it. The
effects follow from state and world alone, never from the transition: whoever is killed between keeping and
acting, or in the middle of acting, sees the same difference again. All effects are idempotent.

Times are wall clock, since they outlive the process.
"""

import msgspec

from moonpool.contracts.routing import FULL
from moonpool.contracts.upgrades import Phase
from moonpool.upgrade.gates import Seen, Verdict, fault_of_new, lacks, steady
from moonpool.upgrade.state import Command, Outcome, Refused, State, back, done, enter, pause
from moonpool.upgrade.strategies import Course
from moonpool.upgrade.wishes import Effect, effects, wish


class Step(msgspec.Struct, frozen=True):
    state: State
    effects: tuple[Effect, ...]


def step(course: Course, state: State, seen: Seen, now: float) -> Step:
    """The next state, and what is to be done. When the state is another than before, keep it first."""
    if state.ended:
        return Step(state, ())
    after = _guarded(course, state, seen, now)
    if after.phase is state.phase:
        after = _advance(course, after, seen, now)
    return Step(after, effects(course, after, seen))


# ── commands ───────────────────────────────────────────────────────────────────────────────────────


def command(course: Course, state: State, word: Command, why: str, now: float) -> State:
    """The state after a person's word. Raises Refused, and then nothing has changed."""
    if state.ended:
        raise Refused(f"this upgrade has ended: {state.phase}", "Start another one.")
    if state.acting is Phase.ROLLING_BACK and state.phase is Phase.PAUSED and word is Command.PROMOTE:
        return msgspec.structs.replace(
            enter(state, Phase.PROMOTE, why or "told to keep it", now), forced=True, outcome=Outcome.RUNNING
        )
    if state.phase in (Phase.ROLLING_BACK, Phase.WITHDRAWING):
        raise Refused("this upgrade is on its way back already", "Wait for its end.")
    if word is Command.PAUSE:
        if state.phase is Phase.PAUSED:
            raise Refused("this upgrade is paused already", "`resume` goes on.")
        return pause(state, why or "told to pause", now)
    if word is Command.RESUME:
        if state.phase is not Phase.PAUSED or state.paused_from is None:
            raise Refused("this upgrade is not paused", "`pause` pauses it.")
        return enter(state, state.paused_from, why or "told to go on", now, stop=state.stop)
    if word is Command.ABORT:
        return back(state, why or "told to abort", now)
    return _promote(course, state, why or "told to promote", now)


def _promote(course: Course, state: State, why: str, now: float) -> State:
    """On to the next thing that waits: past the remaining stops, the window, the watch."""
    phase = state.acting
    if phase in (Phase.PREFLIGHT, Phase.STAGE):
        raise Refused("nothing of the new release runs yet", "Wait until it is ready.")
    if phase in (Phase.SHADOW, Phase.CANARY):
        return enter(state, Phase.PROMOTE, why, now)
    if phase is Phase.PROMOTE:
        if state.effective_since is None:
            raise Refused("not everything goes to the new release yet", "Wait until it does.")
        return enter(state, Phase.DRAIN, why, now)
    if phase is Phase.OBSERVE:
        return done(state, Outcome.PROMOTED, why, now)
    raise Refused("the old release is being drained already", "Wait for its end.")


# ── what stops everything ──────────────────────────────────────────────────────────────────────────

GUARDED = (Phase.STAGE, Phase.SHADOW, Phase.CANARY, Phase.PROMOTE, Phase.DRAIN, Phase.OBSERVE)


def _guarded(course: Course, state: State, seen: Seen, now: float) -> State:
    """Rollback at once, also while paused; a broken experiment pauses."""
    if state.acting not in GUARDED:
        return state
    state = _watched(course, state, seen, now)
    fault = "" if state.forced else _fault(course, state, seen, now)
    if fault:
        return back(state, fault, now)
    if seen.verdict.kind is Verdict.INVALID and state.phase in (Phase.SHADOW, Phase.CANARY):
        return pause(state, f"the comparison is invalid: {seen.verdict.reason}", now)
    return state


def _watched(course: Course, state: State, seen: Seen, now: float) -> State:
    """Note since when too few new instances are ready for what they carry now."""
    lacking = state.acting is not Phase.STAGE and lacks(seen.weight, seen.new.ready, course)
    if lacking == (state.unready_since is not None):
        return state
    return msgspec.structs.replace(state, unready_since=now if lacking else None)


def _fault(course: Course, state: State, seen: Seen, now: float) -> str:
    if fault := fault_of_new(course.limits, seen, state.restarts):
        return fault
    if seen.breach:
        return f"hard limit: {seen.breach}"
    if seen.killed:
        return f"{course.new} was killed by hand in the routing document"
    if seen.verdict.kind is Verdict.WORSE:
        return f"worse than {course.old}: {seen.verdict.reason}"
    # Where the old one has gone, bringing it back takes as long as waiting for the new one.
    most = course.limits.unready_seconds if seen.old.ready else course.limits.ready_seconds
    if state.unready_since is not None and now - state.unready_since >= most:
        return f"{course.new} is not ready any more: {seen.new.ready} of {seen.new.wanted} instances are"
    return ""


# ── the way forward ────────────────────────────────────────────────────────────────────────────────


def _advance(course: Course, state: State, seen: Seen, now: float) -> State:
    if state.phase is Phase.PAUSED:
        return state
    state = _clocked(course, state, seen, now)
    match state.phase:
        case Phase.PREFLIGHT:
            return _from_preflight(state, seen, now)
        case Phase.STAGE:
            return _from_stage(course, state, seen, now)
        case Phase.SHADOW:
            return _from_shadow(course, state, seen, now)
        case Phase.CANARY:
            return _from_stop(course, state, seen, now)
        case Phase.PROMOTE:
            if steady(state.effective_since, course.keep_old, now):
                return enter(state, Phase.DRAIN, "everything goes to the new release", now)
            return _impatient(course, state, seen, now)
        case Phase.DRAIN:
            if seen.old.gone:
                return enter(state, Phase.OBSERVE, f"{course.old} has ended", now)
        case Phase.OBSERVE:
            if steady(state.effective_since, course.observe, now):
                return done(state, Outcome.PROMOTED, f"{course.new} carries everything, and well", now)
        case Phase.ROLLING_BACK | Phase.WITHDRAWING:
            return _from_back(course, state, seen, now)
    return state


def _clocked(course: Course, state: State, seen: Seen, now: float) -> State:
    """Note since when what is wanted of the traffic is so."""
    wanted = wish(course, state, seen)
    route = wanted.route
    routed = not course.routed or (
        route is not None
        and seen.applied
        and seen.is_routed(route.weight, route.mirror, route.only, route.killed)
    )
    if not routed or seen.new.ready < (wanted.new or 0):
        return (
            state if state.effective_since is None else msgspec.structs.replace(state, effective_since=None)
        )
    return state if state.effective_since is not None else msgspec.structs.replace(state, effective_since=now)


def _from_preflight(state: State, seen: Seen, now: float) -> State:
    if seen.faults:
        return msgspec.structs.replace(back(state, "; ".join(seen.faults), now), phase=Phase.ROLLED_BACK)
    after = enter(state, Phase.STAGE, "nothing speaks against it", now)
    return msgspec.structs.replace(after, staged=True, restarts=seen.new.restarts)


def _from_stage(course: Course, state: State, seen: Seen, now: float) -> State:
    if seen.new.ready < course.stage:
        if now - state.since >= course.limits.ready_seconds:
            return back(state, f"{course.new} was not ready in {course.limits.ready_seconds:g} s", now)
        return state
    ready = f"{seen.new.ready} x {course.new} ready"
    if course.shadow is not None:
        return enter(state, Phase.SHADOW, ready, now)
    return enter(state, Phase.CANARY if course.stops else Phase.PROMOTE, ready, now)


def _from_shadow(course: Course, state: State, seen: Seen, now: float) -> State:
    assert course.shadow is not None
    if not steady(state.effective_since, course.shadow.soak, now):
        return state
    if seen.sample < course.shadow.sample:
        return _no_data(course, state, seen.sample, course.shadow.sample, now)
    if seen.verdict.kind is Verdict.UNDECIDED and not course.withdraw:
        return _undecided(course, state, seen, now)
    why = f"{seen.sample} copies compared: {seen.verdict.reason or seen.verdict.kind}"
    if course.withdraw:
        return msgspec.structs.replace(enter(state, Phase.WITHDRAWING, why, now), outcome=Outcome.COMPARED)
    return enter(state, Phase.CANARY if course.stops else Phase.PROMOTE, why, now)


def _from_stop(course: Course, state: State, seen: Seen, now: float) -> State:
    stop = course.stops[state.stop]
    if not steady(state.effective_since, stop.soak, now):
        return _impatient(course, state, seen, now)
    if seen.sample < stop.sample or (stop.analysed and stop.sample and seen.verdict.kind is Verdict.NO_DATA):
        return _no_data(course, state, seen.sample, stop.sample, now)
    if stop.analysed and seen.verdict.kind is Verdict.UNDECIDED:
        return _undecided(course, state, seen, now)
    if stop.hold:
        return _concluded(course, state, seen, now)
    why = f"{stop.weight * 100 / FULL:g} % went well: {seen.sample} requests, {seen.verdict.told}"
    if state.stop + 1 < len(course.stops):
        return enter(state, Phase.CANARY, why, now, stop=state.stop + 1)
    return enter(state, Phase.PROMOTE, why, now)


def _concluded(course: Course, state: State, seen: Seen, now: float) -> State:
    """An experiment ends by itself only when its plan says so and the new release is better; a worse one
    has been rolled back by then."""
    if course.conclude and seen.verdict.kind is Verdict.BETTER:
        return enter(state, Phase.PROMOTE, f"concluded: {seen.verdict.reason}", now)
    return state


def _no_data(course: Course, state: State, have: int, want: int, now: float) -> State:
    if now - state.since < course.patience:
        return state
    return pause(state, f"no data: {have} of {want} requests in {course.patience:g} s", now)


def _undecided(course: Course, state: State, seen: Seen, now: float) -> State:
    if now - state.since < course.patience:
        return state
    return pause(state, f"not decided in {course.patience:g} s: {seen.verdict.reason}", now)


def _impatient(course: Course, state: State, seen: Seen, now: float) -> State:
    """More instances were asked for and do not come."""
    if state.effective_since is None and now - state.since >= course.limits.ready_seconds:
        return back(
            state,
            f"{seen.new.ready} of {seen.new.wanted} x {course.new} ready after "
            f"{course.limits.ready_seconds:g} s",
            now,
        )
    return state


def _from_back(course: Course, state: State, seen: Seen, now: float) -> State:
    """Ended when nothing of the new release is left and the old one is as it was."""
    stuck = now - state.since >= course.limits.ready_seconds
    if state.phase is Phase.ROLLING_BACK and stuck and seen.old.ready == 0 and seen.new.ready:
        return pause(
            state, f"{course.old} does not come up again: mend it and resume, or promote {course.new}", now
        )
    if not state.staged or (seen.new.gone and _restored(course, seen)):
        phase = Phase.DONE if state.phase is Phase.WITHDRAWING else Phase.ROLLED_BACK
        return msgspec.structs.replace(state, phase=phase, since=now)
    return state


def _restored(course: Course, seen: Seen) -> bool:
    return (
        seen.old.ready >= 1
        and seen.old.wanted >= course.full
        and (not course.routed or seen.only == course.old)
    )
