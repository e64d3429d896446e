"""A release's digest is what it is, not what it is called."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from moonpool.contracts.config import SERVICES
from moonpool.contracts.releases import (
    MODULES,
    RUNNING,
    CommandSource,
    EnvironmentSource,
    Overrides,
    Release,
    ReleaseState,
    digest_of,
    sealed,
)

RELEASE = sealed(Release(service="chat", label="v2"))


@pytest.mark.parametrize(
    "changes",
    [{"label": "v3"}, {"created": 9.0}, {"by": "ann"}, {"note": "why"}, {"digest": "x"}],
)
def test_the_same_under_another_name(changes: dict[str, Any]) -> None:
    assert digest_of(replace(RELEASE, **changes)) == RELEASE.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"service": "user"},
        {"source": EnvironmentSource(path="/srv/v2")},
        {"source": CommandSource(argv=("a", "b"))},
        {"overrides": Overrides(environment={"A": "1"})},
    ],
)
def test_another_under_the_same_name(changes: dict[str, Any]) -> None:
    assert digest_of(replace(RELEASE, **changes)) != RELEASE.digest


def test_the_order_in_which_it_is_written_does_not_matter() -> None:
    one = replace(RELEASE, overrides=Overrides(environment={"A": "1", "B": "2"}))
    other = replace(RELEASE, overrides=Overrides(environment={"B": "2", "A": "1"}))

    assert digest_of(one) == digest_of(other)


@pytest.mark.parametrize(
    "document",
    [
        b'{"service":"chat","label":"V2"}',
        b'{"service":"chat","label":"v2","source":{"kind":"rocket"}}',
        b'{"service":"chat","label":"v2","source":{"kind":"command","argv":[]}}',
        b'{"service":"chat","label":"v2","source":{"kind":"endpoint","url":"ftp://x"}}',
        b'{"service":"chat","label":"v2","overrides":{"instances":0}}',
        b'{"service":"chat","label":"v2","overrides":{"environment":{"not a name":"1"}}}',
        b'{"service":"chat","label":"v2","color":"blue"}',
    ],
)
def test_what_is_no_release_is_not_read(document: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(document, type=Release)


def test_names() -> None:
    assert RELEASE.name == "chat@v2"
    assert (*SERVICES, "gateway") == MODULES
    assert ReleaseState.STOPPED not in RUNNING
