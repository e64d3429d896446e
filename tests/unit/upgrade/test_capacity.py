"""Weights that hold with what is ready."""

from hypothesis import given
from hypothesis import strategies as st

from moonpool.contracts.routing import FULL, Routing, Share
from moonpool.upgrade.capacity import capacity_of, effective_weights, percent, wanted_weights


def routing(weight: int, *, new: int = 2, old: int = 2, **more: tuple[str, ...]) -> Routing:
    shares = (Share(release="old", instances=old), Share(release="new", weight=weight, instances=new))
    return Routing(service="chat", default="old", shares=shares, **more)


def test_the_default_gets_what_is_left_over() -> None:
    assert wanted_weights(routing(500)) == {"old": 9_500, "new": 500}
    assert effective_weights(routing(500)).weights == {"old": 9_500, "new": 500}


def test_a_weight_never_exceeds_what_is_ready() -> None:
    found = effective_weights(routing(7_500), {"old": 2, "new": 1})

    assert found.weights == {"old": 5_000, "new": 5_000}
    assert found.notes == ("new can serve 50 % with what is ready, not 75 %",)


def test_without_a_ready_instance_the_others_get_everything() -> None:
    assert effective_weights(routing(500), {"old": 1}).weights == {"old": FULL, "new": 0}
    assert effective_weights(routing(500), {"new": 2}).weights == {"old": 0, "new": FULL}


def test_users_are_not_sent_to_a_release_on_trial_because_the_old_one_is_short_of_an_instance() -> None:
    assert effective_weights(routing(500), {"old": 1, "new": 2}).weights == {"old": 9_500, "new": 500}


def test_a_release_that_was_to_have_nothing_gets_nothing() -> None:
    three = Routing(
        service="chat",
        default="old",
        shares=(Share(release="old"), Share(release="new", weight=500), Share(release="dark")),
    )
    found = effective_weights(three, {"dark": 1, "new": 1})

    assert found.weights == {"old": 0, "new": FULL, "dark": 0}
    assert effective_weights(three, {"dark": 1}).weights == {"old": 9_500, "new": 500, "dark": 0}


def test_killed_is_killed() -> None:
    found = effective_weights(routing(5_000, killed=("new",)), {"old": 1, "new": 2})

    assert found.weights == {"old": FULL, "new": 0}
    assert found.notes == ("new is killed: its 50 % goes to others",)
    assert effective_weights(routing(5_000, killed=("new",)), {"new": 2}).weights == {"old": FULL, "new": 0}
    assert effective_weights(routing(5_000, killed=("old",)), {}).weights == {"old": 0, "new": FULL}


def test_what_is_short_of_everything_is_shared_by_capacity() -> None:
    found = effective_weights(routing(2_500, new=4), {"new": 1})

    assert found.weights == {"old": 0, "new": FULL}
    assert found.notes[-1] == "what is ready is not enough for all of the traffic"


@given(
    weights=st.lists(st.integers(0, 2_500), min_size=1, max_size=4),
    instances=st.lists(st.integers(1, 5), min_size=5, max_size=5),
    ready=st.none() | st.dictionaries(st.sampled_from(["r0", "r1", "r2", "r3", "d"]), st.integers(0, 6)),
    killed=st.sets(st.sampled_from(["r0", "r1", "d"]), max_size=2),
)
def test_all_of_the_traffic_goes_somewhere_and_nowhere_wrong(
    weights: list[int], instances: list[int], ready: dict[str, int] | None, killed: set[str]
) -> None:
    shares = tuple(
        Share(release=f"r{n}", weight=weight, instances=instances[n]) for n, weight in enumerate(weights)
    )
    document = Routing(
        service="chat",
        default="d",
        shares=(*shares, Share(release="d", instances=instances[4])),
        killed=tuple(killed),
    )
    found = effective_weights(document, ready).weights

    assert sum(found.values()) == FULL
    assert list(found) == [share.release for share in document.shares]
    assert all(weight >= 0 for weight in found.values())
    alive = {share.release for share in document.shares} - killed
    if ready is not None:
        alive = {label for label in alive if ready.get(label)}
    wanted = {"d", *(share.release for share in shares if share.weight)}
    if alive & wanted:
        assert all(label in alive for label, weight in found.items() if weight)
    for share in shares:
        if ready is not None and "d" in alive and share.release not in killed:
            assert found[share.release] <= max(capacity_of(share, ready.get(share.release, 0)), 0)
            assert found[share.release] <= share.weight


def test_basis_points_for_people() -> None:
    assert [percent(weight) for weight in (0, 1, 1_250, FULL)] == ["0 %", "0.01 %", "12.5 %", "100 %"]
