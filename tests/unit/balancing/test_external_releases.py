"""A release of inference that is an endpoint somebody else runs."""

import pytest

from moonpool.balancing.models import Models
from moonpool.balancing.pools import Pools
from moonpool.balancing.services import Services
from moonpool.contracts.catalogue import Catalogue, Model, Target
from moonpool.ports.discovery import Instance, Topology

LOCAL = Target(id="local")


def instance(number: int, label: str, **fields: object) -> Instance:
    told = {"pid": 7, "state": "ready", "endpoint": f"unix:/run/inference-{number}.sock", **fields}
    return Instance(name="inference", instance=f"inference-{number}", release=label, **told)  # type: ignore[arg-type]


def far(state: str = "ready") -> Instance:
    fields = {"endpoint": "https://far.example/v1", "external": True, "model": "big", "api_key_env": "KEY"}
    return instance(9, "far", pid=0, state=state, **fields)


@pytest.fixture
def pools() -> Pools:
    pools = Pools()
    pools.update(Topology(1, (instance(0, "v1"), far())))
    return pools


@pytest.fixture
def models(pools: Pools) -> Models:
    models = Models(pools)
    models.update(Catalogue(1, (Model(id="m", targets=(LOCAL,)),)))
    return models


def tiers(models: Models, release: str) -> list[list[str]]:
    return [[one.instance for one in tier.candidates] for tier in models.tiers("m", release)]


def test_it_answers_as_a_target_of_its_own_when_it_is_chosen(models: Models) -> None:
    assert tiers(models, "far") == [["inference-9"], ["inference-0"]]
    candidate = models.tiers("m", "far")[0].candidates[0]
    assert candidate.endpoint.internal is False
    assert candidate.endpoint.release == "far"
    target = Target(id="inference-9", url="https://far.example/v1", model="big", api_key_env="KEY")
    assert candidate.target == target
    assert models.tiers("m", "v1")[0].candidates[0].target == LOCAL


def test_without_a_choice_no_prompt_leaves_the_house_as_long_as_somebody_is_in(
    pools: Pools, models: Models
) -> None:
    assert tiers(models, "") == [["inference-0"]]
    pools.update(Topology(2, (instance(0, "v1", state="draining"), far())))
    assert tiers(models, "") == [["inference-0", "inference-9"]]  # of which one is ready
    pools.update(Topology(3, (far(),)))
    assert tiers(models, "") == [["inference-9"]]


def test_no_call_of_the_service_goes_there(pools: Pools) -> None:
    (tier,) = Services(pools).tiers("inference", "far")[-1:]
    assert [one.instance for one in tier.candidates] == ["inference-0"]


def test_it_is_as_ready_as_the_topology_says(pools: Pools) -> None:
    before = pools.endpoints("inference")[1]
    pools.update(Topology(2, (instance(0, "v1"), far("crashed"))))
    assert pools.endpoints("inference")[1] is before
    assert not before.ready
    pools.update(Topology(3, (instance(0, "v1"),)))
    assert pools.target(before) is None
