"""In which order the instances of a service are asked."""

import pytest

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.pools import Pools
from moonpool.balancing.services import Services, by_release
from moonpool.ports.discovery import Instance, Topology


def instance(name: str, release: str, state: str = "ready", external: bool = False) -> Instance:
    return Instance(
        name=name.partition("-")[0],
        release=release,
        instance=name,
        pid=1,
        state=state,
        endpoint=f"unix:/run/{name}",
        external=external,
    )


@pytest.fixture
def pools() -> Pools:
    pools = Pools()
    pools.update(
        Topology(
            1,
            (
                instance("chat-0", "v1"),
                instance("chat-1", "v2"),
                instance("chat-2", "v1"),
                instance("chat-3", "v3", "starting"),
                instance("chat-4", "v2", "crashed"),
                instance("auth-0", "v1"),
            ),
        )
    )
    return pools


def told(pools: Pools, service: str, release: str = "") -> list[tuple[str, list[str]]]:
    return [
        (tier.name, [candidate.instance for candidate in tier.candidates])
        for tier in Services(pools).tiers(service, release)
    ]


def test_without_a_release_all_are_alike(pools) -> None:
    assert told(pools, "chat") == [("chat", ["chat-0", "chat-1", "chat-2", "chat-3", "chat-4"])]
    assert told(pools, "auth") == [("auth", ["auth-0"])]


@pytest.mark.parametrize(
    ("release", "tiers"),
    [
        ("v1", [("chat@v1", ["chat-0", "chat-2"]), ("chat@v2", ["chat-1", "chat-4"])]),
        ("v2", [("chat@v2", ["chat-1", "chat-4"]), ("chat@v1", ["chat-0", "chat-2"])]),
        (  # what was chosen is asked even if it is not ready; others only when they are
            "v3",
            [("chat@v3", ["chat-3"]), ("chat@v1", ["chat-0", "chat-2"]), ("chat@v2", ["chat-1", "chat-4"])],
        ),
        ("gone", [("chat@v1", ["chat-0", "chat-2"]), ("chat@v2", ["chat-1", "chat-4"])]),
    ],
)
def test_the_chosen_release_comes_first(pools, release: str, tiers) -> None:
    assert told(pools, "chat", release) == tiers


def test_nothing_of_the_service_runs(pools) -> None:
    assert told(pools, "billing") == told(pools, "billing", "v1") == []


def test_tiers_are_made_once_a_topology(pools) -> None:
    services = Services(pools)
    before = services.tiers("chat", "v1")
    assert services.tiers("chat", "v1") is before
    pools.update(Topology(2, (instance("chat-0", "v1"),)))
    after = services.tiers("chat", "v1")
    assert [tier.name for tier in after] == ["chat@v1"]
    # what is known of the load of an instance that stays is kept
    assert after[0].candidates[0].endpoint is before[0].candidates[0].endpoint


def test_what_somebody_else_runs_is_never_asked(pools) -> None:
    pools.update(Topology(2, (instance("chat-0", "v1"), instance("chat-9", "v1", external=True))))
    assert told(pools, "chat") == [("chat", ["chat-0"])]
    assert told(pools, "chat", "v1") == [("chat@v1", ["chat-0"])]


def test_groups_share_nothing_and_lose_nobody_who_is_ready(pools) -> None:
    endpoints = pools.endpoints("chat")
    for release in ("v1", "v2", "v3"):
        seen: list[Endpoint] = [e for _, group in by_release(endpoints, "chat", release) for e in group]
        assert len(seen) == len(set(seen))
        assert {e for e in endpoints if e.ready} <= set(seen)
