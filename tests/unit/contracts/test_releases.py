"""A release's digest is what it is, not what it is called."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from moonpool.contracts.config import SERVICES, ModelConfig, TargetConfig
from moonpool.contracts.money import PriceConfig
from moonpool.contracts.releases import (
    MODULES,
    RUNNING,
    CommandSource,
    EndpointSource,
    EnvironmentSource,
    Overrides,
    Release,
    ReleaseState,
    digest_of,
    prices_of,
    sealed,
)
from moonpool.contracts.usage import TokenPrice

DIGEST = "00ad7f5586ff75ae04a8fdafaadbeb5f712fbfa047bbaeeb897e2720518bf4c6"
"""Of an endpoint, as it was made before releases had prices."""
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


def test_a_release_may_say_what_its_tokens_cost() -> None:
    price = PriceConfig(prompt=0.27, cached_prompt=0.07, completion=1.1)
    endpoint = Release(
        service="inference", label="far", source=EndpointSource(url="https://h/v1", price=price)
    )
    model = ModelConfig(targets=(TargetConfig(local="x.gguf"),), price=price)
    ours = Release(service="inference", label="big", overrides=Overrides(models={"small": model}))

    assert prices_of(endpoint) == {"": TokenPrice(270_000, 70_000, 1_100_000)}
    assert prices_of(ours) == {"small": TokenPrice(270_000, 70_000, 1_100_000)}
    assert prices_of(RELEASE) == {}
    free = replace(endpoint, source=EndpointSource(url="https://h/v1", price=PriceConfig()))
    assert prices_of(free) == {}, "nothing is no price"


def test_an_endpoint_without_a_price_is_the_release_it_was_before_there_were_prices() -> None:
    source = EndpointSource(url="https://h/v1")

    assert b"price" not in msgspec.json.encode(source)
    assert digest_of(Release(service="inference", label="far", source=source)) == DIGEST
