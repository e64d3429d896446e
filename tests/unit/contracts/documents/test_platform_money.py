"""Prices and overdrafts that cannot be are refused with their place; what of them is followed at once."""

import math

import pytest

from moonpool.contracts.config import BillingConfig, ModelConfig, PlatformConfig, TargetConfig
from moonpool.contracts.documents.place import Document
from moonpool.contracts.documents.platform import PLATFORM, check, restart_paths
from moonpool.contracts.documents.validation import DocumentFault, validate
from moonpool.contracts.money import PriceConfig


def priced(**price: float) -> PlatformConfig:
    model = ModelConfig(targets=(TargetConfig(url="http://x/v1"),), price=PriceConfig(**price))
    return PlatformConfig(models={"m": model})


@pytest.mark.parametrize(
    "price", [{}, {"prompt": 0.27, "cached_prompt": 0.07, "completion": 1.1}, {"completion": 0.000001}]
)
def test_what_fits(price: dict[str, float]) -> None:
    assert check(priced(**price)) == []


@pytest.mark.parametrize("value", [-1.0, 0.0000001, 10_001.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["prompt", "cached_prompt", "completion"])
def test_what_is_no_price(name: str, value: float) -> None:
    (problem,) = check(priced(**{name: value}))
    assert problem.path == ("models", "m", "price")


@pytest.mark.parametrize("overdraft", [math.nan, math.inf, 1e-10, 2e6])
def test_what_is_no_overdraft(overdraft: float) -> None:
    (problem,) = check(PlatformConfig(billing=BillingConfig(overdraft=overdraft)))
    assert problem.path == ("billing", "overdraft")


@pytest.mark.parametrize(
    "billing", [{"overdraft": -1}, {"currency": "dollars"}, {"currency": "usd"}, {"enforce": "maybe"}]
)
def test_what_the_schema_refuses(billing: dict[str, object]) -> None:
    with pytest.raises(DocumentFault) as fault:
        validate(Document("a test", {"billing": billing}), PLATFORM)
    assert fault.value.path == ("billing", *billing)


def test_only_the_currency_waits_for_a_start() -> None:
    old, new = PlatformConfig(), BillingConfig(currency="EUR", overdraft=5.0, enforce=False)
    changed = PlatformConfig(billing=new, models=priced(prompt=1.0).models)
    paths = [path for path in restart_paths(old, changed) if path[0] == "billing"]
    assert paths == [("billing", "currency")]
