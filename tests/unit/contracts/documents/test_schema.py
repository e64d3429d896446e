"""What the schema says of places, and what it has no place for."""

import msgspec
import pytest

from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.documents.place import parse_path
from moonpool.contracts.documents.schema import describe, known, type_at
from moonpool.upgrade.documents import ROUTING


def test_what_another_package_knows_is_left_out_at_any_depth() -> None:
    content = {
        "orbits": {"low": 1},
        "gateway": {"port": 1, "tides": True},
        "models": {"m": {"targets": [{"url": "http://a/v1", "spin": 2}], "context": None}},
        "limits": {"default": {"concurrent": 3, "per_day": 4}, "route:*": {"burst": 1}},
        "routes": {"GET /": {"timeouts": {"total": 1, "nap": 2}, "letters": "no"}},
    }
    assert known(content, PlatformConfig) == {
        "gateway": {"port": 1},
        "models": {"m": {"targets": [{"url": "http://a/v1"}], "context": None}},
        "limits": {"default": {"concurrent": 3}, "route:*": {"burst": 1}},
        "routes": {"GET /": {"timeouts": {"total": 1}, "letters": "no"}},
    }
    shared = {"service": "chat", "shares": [{"release": "v1", "wait": 1}], "cookie": {"hue": 1}, "moon": 1}
    assert known(shared, ROUTING.shape) == {
        "service": "chat",
        "shares": [{"release": "v1"}],
        "cookie": {},
    }


@pytest.mark.parametrize("content", [None, [], "text", {"models": [], "gateway": 3, "limits": {"x": None}}])
def test_what_is_of_another_kind_stays_for_the_check(content: object) -> None:
    assert known(content, PlatformConfig) == content


def test_what_is_one_of_several_is_left_as_it_is() -> None:
    class One(msgspec.Struct, tag="one"):
        a: int = 0

    class Two(msgspec.Struct, tag="two"):
        b: int = 0

    class Either(msgspec.Struct):
        it: One | Two | None = None

    content = {"it": {"type": "two", "b": 1, "c": 2}}
    assert known(content, Either) == content


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ('routes."GET /".letters', "asked, failed, no"),
        ('routes."GET /".access', "key, admin"),
        ("models.m.targets[0].continuation", "final, none, prefix"),
        ('routes."GET /".priority', "a whole number of at least 0 and at most 2"),
    ],
)
def test_what_may_stand_there_in_words(place: str, words: str) -> None:
    told = describe(type_at(PlatformConfig, parse_path(place))) or ""
    assert sorted(told.split(", ")) == sorted(words.split(", "))
