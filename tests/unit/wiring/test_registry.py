import pytest

from moonpool.contracts.config import SERVICES
from moonpool.contracts.documents.wire import CONFIG
from moonpool.core.errors import StartupError
from moonpool.wiring.registry import (
    GATEWAY,
    REGISTRY,
    UPGRADE,
    WATCHING,
    Module,
    find,
    secrets_of,
    start_order,
    stop_waves,
)


def module(name, *needs, secrets=()):
    return Module(name=name, entry="nowhere:run", needs=needs, secrets=secrets)


def names(modules):
    return [module.name for module in modules]


def test_the_registry_has_the_gateway_the_nine_the_config_server_and_the_upgrade_manager():
    assert names(REGISTRY) == [GATEWAY, *SERVICES, CONFIG, UPGRADE]
    assert [one.name for one in REGISTRY if one.public] == [GATEWAY]


def test_what_loads_longest_is_forked_first():
    assert names(start_order(REGISTRY))[:2] == ["inference", GATEWAY]
    assert sorted(names(start_order(REGISTRY))) == sorted(names(REGISTRY))


def test_finding_by_name():
    modules = (module("a"), module("b"))
    assert names(find(["b", "a", "b"], modules)) == ["b", "a"]
    with pytest.raises(StartupError, match=r"there is no module 'c'\n.*Known are a, b"):
        find(["c"], modules)


@pytest.mark.parametrize(
    ("modules", "waves"),
    [
        ((module("a", "b"), module("b", "c"), module("c")), [["a"], ["b"], ["c"]]),
        ((module("a"), module("b")), [["a", "b"]]),
        ((module("top", "a", "b"), module("a", "b"), module("b", "a")), [["top"], ["a", "b"]]),
        ((module("a", "elsewhere"),), [["a"]]),
    ],
)
def test_callers_stop_before_what_they_call(modules, waves):
    assert [names(wave) for wave in stop_waves(modules)] == waves


def test_each_gets_the_keys_it_needs_and_no_others():
    root = bytes(32)
    front = secrets_of(module("front", "alpha", "beta", secrets=("spool",)), root)
    alpha = secrets_of(module("alpha", "beta"), root)
    beta = secrets_of(module("beta", secrets=("pepper",)), root)
    assert set(front.calls) == {"alpha", "beta"}
    assert front.calls["beta"] == alpha.calls["beta"] == beta.context
    assert set(front.own) == {"spool"}
    assert beta.calls == {}
    assert len({beta.context, alpha.context, beta.own["pepper"], front.own["spool"]}) == 4


def test_who_only_listens_gets_a_key_for_that():
    root = bytes(32)
    server = secrets_of(module(CONFIG, secrets=(WATCHING,)), root)
    writer = secrets_of(module("front", CONFIG), root)
    assert writer.calls[CONFIG] == server.context != server.own[WATCHING]
    keys = {one.name: secrets_of(one, root).calls.get(CONFIG) for one in REGISTRY}
    assert {name for name, key in keys.items() if key == server.own[WATCHING]} == set(SERVICES)


def test_an_entry_that_is_not_there_is_told():
    with pytest.raises(StartupError, match="nowhere:run: cannot be loaded"):
        module("a").load_entry()
