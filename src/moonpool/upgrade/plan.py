"""What a plan may say beyond its types, and whether it fits what runs. Pure."""

from collections.abc import Iterator

from moonpool.contracts.releases import GATEWAY, MODULES
from moonpool.contracts.upgrades import StepPlan, Strategy, UpgradePlan
from moonpool.ports.config import Kind, Path, Problem
from moonpool.upgrade.strategies import basis_points, needed

S = Strategy


def problems(name: str, plan: UpgradePlan) -> Iterator[Problem]:
    """All that does not fit together, by the place in the plan."""
    if plan.strategy is S.CANARY:
        yield from _steps(plan)
    if plan.shadow is not None and plan.strategy not in (S.CANARY, S.SHADOW):
        yield Problem(
            ("shadow",),
            f"{plan.strategy} has no shadow",
            "Choose canary, or shadow alone.",
        )
    if plan.shadow is not None and basis_points(plan.shadow.percent) == 0:
        yield Problem(("shadow", "percent"), "nothing would be copied", "Give at least 0.01.")
    if plan.conclude and plan.strategy is not S.AB:
        yield Problem(("conclude",), f"{plan.strategy} is no experiment", "Choose ab, or leave it out.")
    if plan.strategy is S.AB and not 0 < basis_points(plan.split) < 10_000:
        yield Problem(("split",), f"{plan.split:g} % is no split", "Give between 0.01 and 99.99.")


def _steps(plan: UpgradePlan) -> Iterator[Problem]:
    before = 0
    for index, step in enumerate(plan.steps):
        path: Path = ("steps", index)
        weight = basis_points(_weight(step))
        if weight >= 10_000:
            yield Problem(path, "a step of everything is promotion", "Leave it out: that comes by itself.")
        elif weight <= before:
            yield Problem(
                path,
                f"{_weight(step):g} % is not above the step before",
                "Steps rise, the first from at least 0.01.",
            )
        before = max(before, weight)


def _weight(step: StepPlan | float) -> float:
    return step.weight if isinstance(step, StepPlan) else step


def misfits(service: str, plan: UpgradePlan, full: int) -> Iterator[Problem]:
    """What does not fit the service, of which `full` instances run now."""
    if service not in MODULES:
        yield Problem(("service",), f"there is no service {service!r}", f"Known are {', '.join(MODULES)}.")
    if service == GATEWAY and plan.strategy not in (S.ROLLING, S.BLUE_GREEN):
        yield Problem(
            ("strategy",),
            f"the gateway cannot be upgraded by {plan.strategy}: its listening socket shares the connections",
            "Choose rolling or blue-green.",
        )
    replicas = plan.replicas or full
    for index, step in enumerate(plan.steps if plan.strategy is S.CANARY else ()):
        if not isinstance(step, StepPlan) or not step.replicas:
            continue
        enough = needed(basis_points(step.weight), replicas)
        if step.replicas < enough:
            yield Problem(
                ("steps", index, "replicas"),
                f"{step.weight:g} % is more than {step.replicas} of {replicas} instances can carry",
                f"Give {enough} or more, or lower the weight; 0 takes what is needed.",
            )
        elif step.replicas > replicas:
            yield Problem(
                ("steps", index, "replicas"),
                f"{step.replicas} instances are more than the release has in the end ({replicas})",
                "Raise the plan's `replicas`, or lower the step's.",
            )


PLAN: Kind[UpgradePlan] = Kind(
    name="plan", shape=UpgradePlan, summary="How one upgrade goes about it.", check=problems
)
