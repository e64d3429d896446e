"""What a strategy and a plan become for a service of so many instances."""

import pytest

from moonpool.contracts.routing import Unit
from moonpool.contracts.upgrades import ShadowPlan, StepPlan, Strategy, UpgradePlan
from moonpool.upgrade.strategies import compile_course, describe, needed


def course(strategy: str, full: int = 1, **fields):
    return compile_course("chat", "v1", "v2", full, UpgradePlan(strategy=Strategy(strategy), **fields))


@pytest.mark.parametrize(
    ("full", "replicas", "expected"),
    [
        (1, 0, []),
        (2, 0, [(5000, 1, 2)]),
        (4, 0, [(2500, 1, 4), (5000, 2, 3), (7500, 3, 2)]),
        (4, 2, [(5000, 1, 4)]),
        (2, 4, [(2500, 1, 2), (5000, 2, 2), (7500, 3, 1)]),
    ],
)
def test_rolling_surges_one_and_drains_one(full: int, replicas: int, expected: list) -> None:
    found = course("rolling", full, replicas=replicas)
    assert [(stop.weight, stop.new, stop.old) for stop in found.stops] == expected
    for stop in found.stops:  # what the old ones keep of the traffic they can carry
        assert (10_000 - stop.weight) * full <= 10_000 * stop.old


def test_a_canary_has_the_instances_that_its_weights_need() -> None:
    found = course("canary", 4, steps=(1.0, 50.0, StepPlan(weight=75, replicas=4, soak_seconds=5)))
    assert [(stop.weight, stop.new, stop.soak) for stop in found.stops] == [
        (100, 1, 60.0),
        (5000, 2, 60.0),
        (7500, 4, 5),
    ]
    assert found.stage == 1
    assert found.unit is Unit.REQUEST


def test_blue_green_stages_everything_and_keeps_the_old() -> None:
    found = course("blue-green", 3)
    assert (found.stage, found.stops, found.keep_old) == (3, (), 60.0)
    assert course("blue-green", keep_old_seconds=5).keep_old == 5


def test_an_experiment_holds_its_split_for_users() -> None:
    found = course("ab", 2, split=20)
    assert [(stop.weight, stop.hold) for stop in found.stops] == [(2000, True)]
    assert found.unit is Unit.USER


def test_a_shadow_goes_again() -> None:
    found = course("shadow")
    assert found.withdraw
    assert found.shadow is not None
    assert not course("canary", shadow=ShadowPlan()).withdraw


@pytest.mark.parametrize(
    ("weight", "replicas", "count"), [(0, 4, 1), (2500, 4, 1), (2501, 4, 2), (10_000, 4, 4)]
)
def test_as_many_instances_as_the_weight_needs(weight: int, replicas: int, count: int) -> None:
    assert needed(weight, replicas) == count


@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_course_can_be_told(strategy: Strategy) -> None:
    lines = describe(course(strategy, 2))
    assert lines[0].startswith("check that chat@v2 can run")
    assert all(lines)
