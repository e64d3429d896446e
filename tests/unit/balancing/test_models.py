import pytest

from moonpool.balancing.models import Models
from moonpool.balancing.pools import Pools
from moonpool.contracts.catalogue import Catalogue, Model, Target
from moonpool.core.errors import BadRequest, NotFound, Unavailable
from moonpool.ports.discovery import Instance, Topology


def topology(*numbers: int, releases: tuple[str, ...] = ()) -> Topology:
    """Instances of inference; of release v1 unless said otherwise."""
    return Topology(
        1,
        tuple(
            Instance(
                name="inference",
                release=releases[place] if releases else "v1",
                instance=f"inference-{n}",
                pid=n,
                state="ready",
                endpoint=f"unix:/run/{n}.sock",
            )
            for place, n in enumerate(numbers)
        ),
    )


def inference(*numbers: int, releases: tuple[str, ...] = ()) -> Pools:
    pools = Pools()
    pools.update(topology(*numbers, releases=releases))
    return pools


def catalogue(version: int, *models: Model) -> Catalogue:
    return Catalogue(version, models)


def external(id: str, **fields: int) -> Target:
    return Target(id=id, url=f"http://{id}.example/v1", **fields)  # type: ignore[arg-type]


def ids(models: Models, alias: str) -> list[list[str]]:
    return [[candidate.instance for candidate in tier.candidates] for tier in models.tiers(alias)]


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
    before = [candidate.endpoint for candidate in models.tiers("m")[0].candidates]
    models.update(catalogue(2, Model(id="n", targets=(external("a"), external("b", weight=3)))))
    after = [candidate.endpoint for candidate in models.tiers("n")[0].candidates]
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


def names(models: Models, alias: str, release: str = "") -> list[str]:
    return [tier.name for tier in models.tiers(alias, release)]


def test_the_chosen_release_comes_first_the_others_after_it() -> None:
    models = Models(inference(0, 1, 2, releases=("v2", "v1", "v2")))
    targets = (Target(id="local"), external("a"), external("b", priority=1))
    models.update(catalogue(1, Model(id="m", targets=targets)))
    assert ids(models, "m") == [["inference-0", "inference-1", "inference-2", "a"], ["b"]]
    tiers = models.tiers("m", "v1")
    assert [[c.instance for c in tier.candidates] for tier in tiers] == [
        ["inference-1", "a"],
        ["inference-0", "inference-2"],
        ["b"],
    ]
    assert names(models, "m", "v1") == ["m/0", "m/0 inference@v2", "m/1"]
    assert {tier.alias for tier in tiers} == {"m"}


def test_several_local_targets_are_candidates_on_every_instance() -> None:
    models = Models(inference(0, 1))
    targets = (Target(id="x", weight=1), Target(id="y", weight=3))
    models.update(catalogue(1, Model(id="m", targets=targets)))
    (tier,) = models.tiers("m")
    assert sorted((c.instance, c.target.id) for c in tier.candidates if c.target) == [
        ("inference-0", "x"),
        ("inference-0", "y"),
        ("inference-1", "x"),
        ("inference-1", "y"),
    ]


def test_fallbacks_come_after_all_that_the_alias_has_and_once() -> None:
    models = Models(Pools())
    models.update(
        catalogue(
            1,
            Model(
                id="m", targets=(external("a"), external("b", priority=1)), fallbacks=("n", "m", "gone", "n")
            ),
            Model(id="n", targets=(external("c"),), fallbacks=("o",)),
            Model(id="o", targets=(external("d"),)),
        )
    )
    assert [(tier.name, tier.alias) for tier in models.tiers("m")] == [
        ("m/0", "m"),
        ("m/1", "m"),
        ("n/0", "n"),
    ]


def test_a_chain_has_the_tiers_of_the_others_only() -> None:
    models = Models(inference(0, 1, releases=("v1", "v2")))
    models.update(
        catalogue(
            1,
            Model(id="m", targets=(external("a"),), fallbacks=("n",)),
            Model(id="n", targets=(Target(id="local"),)),
            Model(id="o", targets=(external("d"),)),
        )
    )
    assert [tier.alias for tier in models.chain("m", ("o", "n"))] == ["o", "n"]
    assert [tier.name for tier in models.chain("m", ("n",), "v2")] == ["n/0", "n/0 inference@v1"]
    assert models.chain("m", ("gone",)) == []


def test_tiers_follow_the_topology_and_the_catalogue() -> None:
    pools = inference(0)
    models = Models(pools)
    models.update(catalogue(1, Model(id="m", targets=(Target(id="local"),), fallbacks=("n",))))
    assert ids(models, "m") == [["inference-0"]]
    assert models.tiers("m") is models.tiers("m")
    pools.update(topology(0, 1))
    assert ids(models, "m") == [["inference-0", "inference-1"]]
    assert models.chain("m", ("n",)) == []
    models.update(
        catalogue(2, Model(id="m", targets=(external("a"),)), Model(id="n", targets=(external("b"),)))
    )
    assert ids(models, "m") == [["a"]]
    assert [tier.alias for tier in models.chain("m", ("n",))] == ["n"]


def test_a_model_and_its_chains_can_be_looked_up() -> None:
    models = Models(Pools())
    models.update(catalogue(1, Model(id="m", targets=(external("a"),), context_fallbacks=("n",))))
    model = models.model("m")
    assert model is not None
    assert model.context_fallbacks == ("n",)
    assert models.model("n") is None
