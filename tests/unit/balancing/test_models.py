import pytest

from moonpool.balancing.models import Models
from moonpool.balancing.pools import Pools
from moonpool.contracts.catalogue import Catalogue, Model, Target
from moonpool.core.errors import BadRequest, NotFound, Unavailable
from moonpool.ports.discovery import Instance, Topology


def inference(*numbers: int) -> Pools:
    pools = Pools()
    pools.update(
        Topology(
            1,
            tuple(
                Instance(
                    name="inference",
                    release="v1",
                    instance=f"inference-{n}",
                    pid=n,
                    state="ready",
                    endpoint=f"unix:/run/{n}.sock",
                )
                for n in numbers
            ),
        )
    )
    return pools


def catalogue(version: int, *models: Model) -> Catalogue:
    return Catalogue(version, models)


def external(id: str, **fields: int) -> Target:
    return Target(id=id, url=f"http://{id}.example/v1", **fields)  # type: ignore[arg-type]


def ids(models: Models, alias: str) -> list[list[str]]:
    return [[candidate.endpoint.instance for candidate in tier] for tier in models.tiers(alias)]


def test_before_any_catalogue_was_seen_it_is_our_fault() -> None:
    with pytest.raises(Unavailable):
        Models(Pools()).get("m", "chat")


def test_unknown_and_incapable_models_are_the_client_s() -> None:
    models = Models(Pools())
    models.update(catalogue(1, Model(id="m", targets=(external("a"),), capabilities=("embeddings",))))
    with pytest.raises(NotFound) as unknown:
        models.get("x", "chat")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(BadRequest) as incapable:
        models.get("m", "chat")
    assert incapable.value.code == "unsupported_capability"
    assert models.get("m", "embeddings").id == "m"


def test_tiers_rise_by_priority() -> None:
    models = Models(inference(0, 1))
    targets = (external("b", priority=5), Target(id="local", priority=1), external("a", priority=5))
    models.update(catalogue(1, Model(id="m", targets=targets)))
    assert ids(models, "m") == [["inference-0", "inference-1"], ["b", "a"]]
    assert models.tiers("unknown") == []


def test_a_tier_without_an_instance_is_left_out() -> None:
    models = Models(Pools())
    models.update(catalogue(1, Model(id="m", targets=(Target(id="local"), external("a", priority=1)))))
    assert ids(models, "m") == [["a"]]


def test_an_unchanged_target_keeps_its_endpoint() -> None:
    models = Models(Pools())
    models.update(catalogue(1, Model(id="m", targets=(external("a"), external("b")))))
    before = [candidate.endpoint for candidate in models.tiers("m")[0]]
    models.update(catalogue(2, Model(id="n", targets=(external("a"), external("b", weight=3)))))
    after = [candidate.endpoint for candidate in models.tiers("n")[0]]
    assert after[0] is before[0]
    assert after[1] is not before[1]
    assert (after[1].weight, after[1].internal) == (3, False)


def test_a_bad_address_changes_nothing() -> None:
    models = Models(Pools())
    models.update(catalogue(1, Model(id="m", targets=(external("a"),))))
    with pytest.raises(ValueError, match="endpoint"):
        models.update(catalogue(2, Model(id="n", targets=(external("b"), Target(id="c", url="ftp://x")))))
    assert models.version == 1
    assert ids(models, "m") == [["a"]]
    with pytest.raises(NotFound):
        models.get("n", "chat")
