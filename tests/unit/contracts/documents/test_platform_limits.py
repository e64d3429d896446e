"""Whom an entry of `limits` may name."""

import pytest

from moonpool.contracts.config import LimitConfig, PlatformConfig
from moonpool.contracts.documents.platform import check

SOME = LimitConfig(requests_per_minute=10)


@pytest.mark.parametrize(
    "name",
    [
        "default", "key:key_01k2", "user:*", "user:user_1", "organisation:org_1", "model:smollm2",
        "model:a:b", "route:/v1/chat/completions", "route:*",
        "address:192.0.2.7", "address:2001:db8::1", "address:*",
    ],
)  # fmt: skip
def test_known_names(name: str) -> None:
    assert check(PlatformConfig(limits={name: SOME})) == []


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("defualt", "default"),
        ("organization:x", "organisation"),
        ("key", "key:NAME"),
        ("key:", "key:NAME"),
        ("key:*", "default"),
        ("route:v1/chat", "/v1"),
        ("address:localhost", "192.0.2.7"),
        ("address:10.0.0.0/8", "192.0.2.7"),
        ("", "default"),
    ],
)
def test_unknown_names(name: str, word: str) -> None:
    (problem,) = check(PlatformConfig(limits={name: SOME}))
    assert problem.path == ("limits", name)
    assert word in problem.hint


def test_a_burst_of_nothing() -> None:
    (problem,) = check(PlatformConfig(limits={"user:*": LimitConfig(burst=5, tokens_per_minute=1)}))
    assert problem.path == ("limits", "user:*", "burst")
    assert check(PlatformConfig(limits={"default": LimitConfig(burst=5)})) == []
