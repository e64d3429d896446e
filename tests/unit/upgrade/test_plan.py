"""Plans that make no sense are refused with the place of the fault."""

from pathlib import Path

import pytest

from moonpool.contracts.upgrades import (
    AnalysisPlan,
    HardLimits,
    ShadowPlan,
    StepPlan,
    Strategy,
    UpgradePlan,
)
from moonpool.core.errors import StartupError
from moonpool.upgrade.plan import misfits, problems
from moonpool.wiring.plans import load_plan


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("strategy: canarry\n", 1, "invalid enum value"),
        ("strategy: canary\nsteps: [1, 5, 5]\n", 2, "steps[2]: 5 % is not above"),
        ("strategy: canary\nsteps:\n  - 5\n  - 100\n", 4, "a step of everything is promotion"),
        ("soak: 5\n", 1, "has no setting soak"),
        ("steps:\n  - weight: 5\n    replica: 2\n", 3, "has no setting replica"),
        ("limits:\n  error_rate: 5\n", 2, "limits.error_rate"),
        ("strategy: rolling\nshadow: {percent: 5}\n", 2, "rolling has no shadow"),
        ("conclude: true\n", 1, "canary is no experiment"),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    with pytest.raises(StartupError) as refused:
        load_plan(file)
    assert refused.value.where == f"{file}:{line}"
    assert message in refused.value.message.lower()
    assert refused.value.hint


def test_a_whole_plan_is_read(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(
        "strategy: canary\nsteps: [1, {weight: 20, soak_seconds: 5, replicas: 2}]\n"
        "analysis: {alpha: 0.01}\nlimits: {error_rate: null, restarts: 5}\nobserve_seconds: 30\n"
    )
    plan = load_plan(file)
    assert plan.steps == (1, StepPlan(weight=20, soak_seconds=5, replicas=2))
    assert (plan.limits.error_rate, plan.limits.restarts) == (None, 5)


def test_plans_as_they_are_by_default_make_sense() -> None:
    for strategy in Strategy:
        assert list(problems("plan", UpgradePlan(strategy=strategy))) == []
        assert list(misfits("chat", UpgradePlan(strategy=strategy), 1)) == []


def test_more_instances_than_the_release_has_in_the_end_are_refused() -> None:
    plan = UpgradePlan(steps=(StepPlan(weight=5, replicas=9),))
    assert [problem.path for problem in misfits("chat", plan, 2)] == [("steps", 0, "replicas")]


def test_the_operators_page_tells_every_setting_of_a_plan() -> None:
    page = (Path(__file__).parents[3] / "docs/upgrades.md").read_text()
    for shape in (UpgradePlan, AnalysisPlan, HardLimits, ShadowPlan, StepPlan):
        for field in shape.__struct_fields__:
            assert field in page, f"{shape.__name__}.{field}"
    for strategy in Strategy:
        assert f"`{strategy}`" in page
