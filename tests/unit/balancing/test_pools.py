from msgspec import structs

from moonpool.balancing.pools import Pools
from moonpool.contracts.usage import TokenPrice
from moonpool.ports.discovery import Instance, Topology


def instance(name: str, number: str, state: str = "ready", endpoint: str | None = None) -> Instance:
    address = f"unix:/run/{name}-{number}.sock" if endpoint is None else endpoint
    return Instance(
        name=name, release="v1", instance=f"{name}-{number}", pid=1, state=state, endpoint=address
    )


def test_no_topology_no_endpoints() -> None:
    assert Pools().endpoints("chat") == []


def test_what_a_release_says_of_its_price() -> None:
    pools = Pools()
    any_model = structs.replace(instance("inference", "0"), prices={"": (1, 2, 3)})
    one_model = structs.replace(instance("inference", "1"), prices={"small": (4, 5, 6)})
    pools.update(Topology(1, (any_model, one_model, instance("inference", "2"))))

    assert pools.price("inference-0", "small") == TokenPrice(1, 2, 3)
    assert pools.price("inference-1", "small") == TokenPrice(4, 5, 6)
    assert pools.price("inference-1", "large") is None
    assert pools.price("inference-2", "small") is None
    pools.update(Topology(2, (one_model,)))
    assert pools.price("inference-0", "small") is None


def test_an_instance_that_stays_keeps_what_is_known_of_it() -> None:
    pools = Pools()
    pools.update(Topology(1, (instance("chat", "0"), instance("auth", "0"))))
    (before,) = pools.endpoints("chat")
    before.active = 3
    pools.update(Topology(2, (instance("chat", "0", "degraded"), instance("chat", "1", "starting"))))
    kept, new = pools.endpoints("chat")
    assert kept is before
    assert (kept.ready, new.ready) == (True, False)
    assert pools.endpoints("auth") == []


def test_states() -> None:
    pools = Pools()
    states = ("ready", "degraded", "starting", "draining", "crashed", "stopped")
    pools.update(Topology(1, tuple(instance("chat", state, state) for state in states)))
    assert {e.instance.split("-")[1]: e.ready for e in pools.endpoints("chat")} == {
        "ready": True,
        "degraded": True,
        "starting": False,
        "draining": False,
        "crashed": False,
    }


def test_without_an_address_there_is_nothing_to_ask() -> None:
    pools = Pools()
    pools.update(Topology(1, (instance("chat", "0", endpoint=""),)))
    assert pools.endpoints("chat") == []


def test_the_gone_are_told() -> None:
    pools = Pools()
    gone: list[str] = []
    pools.on_gone(lambda endpoint: gone.append(endpoint.instance))
    pools.update(Topology(1, (instance("chat", "0"), instance("chat", "1"), instance("auth", "0"))))
    pools.update(Topology(2, (instance("chat", "1"), instance("auth", "0", "stopped"))))
    assert sorted(gone) == ["auth-0", "chat-0"]


def test_a_reader_of_the_old_list_is_not_disturbed() -> None:
    pools = Pools()
    pools.update(Topology(1, (instance("chat", "0"),)))
    held = pools.endpoints("chat")
    pools.update(Topology(2, ()))
    assert len(held) == 1
    assert pools.endpoints("chat") == []
