"""From a strategy and its plan to a course: the stops that one upgrade makes, with numbers in them.

    strategy     stops before promotion                          old instances meanwhile
    rolling      1/N, 2/N … of the traffic, an instance each     one less after each stop
    blue-green   none: one switch                                all, for the window
    canary       the plan's weights                              all
    ab           the split, until concluded                      all
    shadow       none: copies only, then the new ones go         all

Pure. The machine (machine.py) knows courses only, no strategy by name.
"""

from math import ceil

import msgspec

from moonpool.contracts.releases import GATEWAY
from moonpool.contracts.routing import FULL, Unit
from moonpool.contracts.upgrades import HardLimits, ShadowPlan, StepPlan, Strategy, UpgradePlan

ROLLING_SOAK = 5.0
SOAK = 60.0
SAMPLE = 50
WINDOW = 60.0
"""Seconds that blue-green keeps the old release when the plan does not say."""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """A share of the traffic (basis points) that is held until its gates open. `new` and `old` are
    instances; `hold` waits for a person's word (or, with `conclude`, for significance)."""

    weight: int
    new: int
    old: int
    soak: float
    sample: int
    analysed: bool = True
    hold: bool = False


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    share: int
    soak: float
    sample: int


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """`full` old instances carried everything when it began; `replicas` new ones will in the end."""

    service: str
    old: str
    new: str
    strategy: Strategy
    full: int
    replicas: int
    stage: int
    """New instances that must be ready before anything reaches them."""
    stops: tuple[Stop, ...]
    shadow: Shadow | None = None
    withdraw: bool = False
    """Whether the new release goes again after the shadow."""
    conclude: bool = False
    last_old: int
    """Old instances that stand by while everything goes to the new release."""
    keep_old: float
    observe: float
    patience: float
    unit: Unit
    pin: bool = False
    limits: HardLimits
    routed: bool = True
    """Whether the version router shares the traffic; the gateway's own is shared by its listening socket."""


def compile_course(service: str, old: str, new: str, full: int, plan: UpgradePlan) -> Course:
    """Of a plan that was checked (plan.py). `full` ≥ 1 old instances are there."""
    replicas = plan.replicas or full
    stops = _stops(plan, full, replicas)
    shadow = _shadow(plan)
    window = WINDOW if plan.strategy is Strategy.BLUE_GREEN else 0.0
    stage = replicas if plan.strategy is Strategy.BLUE_GREEN else stops[0].new if stops else 1
    return Course(
        service=service,
        old=old,
        new=new,
        strategy=plan.strategy,
        full=full,
        replicas=replicas,
        stage=stage,
        stops=stops,
        shadow=shadow,
        withdraw=plan.strategy is Strategy.SHADOW,
        conclude=plan.conclude,
        last_old=_left(full, replicas, replicas) if plan.strategy is Strategy.ROLLING else full,
        keep_old=window if plan.keep_old_seconds is None else plan.keep_old_seconds,
        observe=plan.observe_seconds,
        patience=plan.patience_seconds,
        unit=plan.unit or (Unit.USER if plan.strategy is Strategy.AB else Unit.REQUEST),
        pin=plan.pin_conversations,
        limits=plan.limits,
        routed=service != GATEWAY,
    )


def _stops(plan: UpgradePlan, full: int, replicas: int) -> tuple[Stop, ...]:
    if plan.strategy is Strategy.ROLLING:
        return tuple(_rolling(plan, full, replicas))
    if plan.strategy is Strategy.CANARY:
        return tuple(_canary(plan, step, full, replicas) for step in plan.steps)
    if plan.strategy is Strategy.AB:
        weight = basis_points(plan.split)
        stop = _canary(plan, StepPlan(weight=plan.split), full, replicas)
        return (msgspec.structs.replace(stop, weight=weight, hold=True),)
    return ()


def _rolling(plan: UpgradePlan, full: int, replicas: int) -> list[Stop]:
    """Surge one, drain one: at no time more than one instance above the larger number, and never less in
    all than carry everything."""
    stops = []
    for new in range(1, replicas):
        weight = FULL * new // replicas
        stops.append(
            Stop(
                weight=weight,
                new=new,
                old=_left(full, replicas, new),
                soak=ROLLING_SOAK if plan.soak_seconds is None else plan.soak_seconds,
                sample=plan.minimum_sample or 0,
                analysed=plan.analysis.enabled,
            )
        )
    return stops


def _left(full: int, replicas: int, new: int) -> int:
    """Old instances beside the `new`-th: those before it have each replaced their part."""
    return max(1, full - full * (new - 1) // replicas)


def _canary(plan: UpgradePlan, step: StepPlan | float, full: int, replicas: int) -> Stop:
    if not isinstance(step, StepPlan):
        step = StepPlan(weight=step)
    weight = basis_points(step.weight)
    soak = step.soak_seconds if step.soak_seconds is not None else plan.soak_seconds
    sample = step.minimum_sample if step.minimum_sample is not None else plan.minimum_sample
    return Stop(
        weight=weight,
        new=step.replicas or needed(weight, replicas),
        old=full,
        soak=SOAK if soak is None else soak,
        sample=SAMPLE if sample is None else sample,
        analysed=plan.analysis.enabled,
    )


def _shadow(plan: UpgradePlan) -> Shadow | None:
    wanted = plan.shadow or (ShadowPlan() if plan.strategy is Strategy.SHADOW else None)
    if wanted is None:
        return None
    sample = wanted.minimum_sample if wanted.minimum_sample is not None else plan.minimum_sample
    return Shadow(
        share=basis_points(wanted.percent), soak=wanted.seconds, sample=SAMPLE if sample is None else sample
    )


def basis_points(percent: float) -> int:
    return round(percent * FULL / 100)


def needed(weight: int, replicas: int) -> int:
    """Instances that can carry `weight`, when `replicas` of them carry everything."""
    return max(1, ceil(weight * replicas / FULL))


def describe(course: Course) -> tuple[str, ...]:
    """What would happen, line by line."""
    name = f"{course.service}@{course.new}"
    lines = [f"check that {name} can run beside {course.service}@{course.old}; nothing is changed until then"]
    lines.append(
        f"start {_count(course.stage, name)}; wait until ready, at most {_span(course.limits.ready_seconds)}"
    )
    if course.shadow is not None:
        shadow = course.shadow
        lines.append(
            f"copy {_percent(shadow.share)} of the requests to {name} for {_span(shadow.soak)} and at least "
            f"{shadow.sample} of them; nobody sees its answers"
        )
    if course.withdraw:
        lines.append(f"stop {name} and tell how it compared; {course.old} was never touched")
        return tuple(lines)
    for stop in course.stops:
        lines.append(_stop_line(course, stop))
    lines.append(f"have {_count(course.replicas, name)} ready, then send everything to {name}")
    if course.keep_old:
        lines.append(f"keep {course.old} standing by for {_span(course.keep_old)}")
    lines.append(f"see that {course.old} gets nothing any more, let it finish what it has, stop it")
    lines.append(f"watch {name} alone for {_span(course.observe)}; done")
    lines.append(f"whenever {name} fails: everything back to {course.old} at once, and {name} is stopped")
    return tuple(lines)


def _stop_line(course: Course, stop: Stop) -> str:
    gates = [f"at least {_span(stop.soak)}"] if stop.soak else []
    gates += [f"{stop.sample} requests"] if stop.sample else []
    gates += ["no evidence that it is worse"] if stop.analysed else []
    until = "until significant or told" if course.conclude else "until `promote` or `abort`"
    gates += [until] if stop.hold else []
    where = "" if course.routed else " (by the listening socket)"
    return (
        f"{_percent(stop.weight)} to {course.new}{where}, {_count(stop.new, 'new')}, "
        f"{_count(stop.old, 'old')}: {', '.join(gates) or 'no gate'}"
    )


def _percent(weight: int) -> str:
    return f"{weight * 100 / FULL:g} %"


def _count(number: int, name: str) -> str:
    return f"{number} x {name}"


def _span(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"
