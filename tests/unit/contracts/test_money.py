"""Amounts and prices are exact, or refused."""

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.contracts.money import NANO, PriceConfig, amount_of, cost, nano, spell, token_price
from moonpool.contracts.usage import TokenPrice, Usage

PRICES = st.integers(0, 10**10)
TOKENS = st.integers(0, 10**7)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00"),
        (110 * NANO, "110.00"),
        (9_858_000, "0.009858"),
        (1, "0.000000001"),
        (-1_500_000_000, "-1.50"),
    ],
)
def test_amounts_are_told_exactly(amount: int, text: str) -> None:
    assert spell(amount) == text
    assert amount_of(text) == amount


@given(st.integers(-(10**15), 10**15))
def test_what_is_told_is_what_is_read(amount: int) -> None:
    assert amount_of(spell(amount)) == amount


ODD = [
    "1_0",
    " 1",
    "1 ",
    "1\n",
    "+1",
    "1e3",
    "1E-3",
    ".5",
    "5.",
    "1,5",
    "--1",
    "- 1",
    "٣",
    "9" * 5000,
    "0." + "1" * 5000,
]


@pytest.mark.parametrize("text", ["", "ten", "0.0000000001", "1e99", "NaN", "Infinity", "1000000.01", *ODD])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="amount"):
        amount_of(text)


@pytest.mark.parametrize(
    ("text", "amount"), [("007.50", 7_500_000_000), ("-0", 0), ("1.0000000000000", NANO), ("1000000", 10**15)]
)
def test_zeros_more_change_no_amount(text: str, amount: int) -> None:
    assert amount_of(text) == amount


def test_amounts_of_files_are_what_was_written() -> None:
    assert nano(0.1) == 100_000_000
    assert nano(1e-7) == 100


def test_a_price_is_an_integer_a_token() -> None:
    assert token_price(PriceConfig(prompt=0.27, cached_prompt=0.07, completion=1.1)) == TokenPrice(
        270_000, 70_000, 1_100_000
    )
    assert token_price(PriceConfig(prompt=2, completion=0)) == TokenPrice(2_000_000, 2_000_000, 0)
    assert token_price(PriceConfig()) is None
    assert token_price(None) is None


@pytest.mark.parametrize("price", [-0.1, 0.0000001, 10_000.1, float("nan"), float("inf")])
def test_what_is_no_price(price: float) -> None:
    with pytest.raises(ValueError, match=r"price|number"):
        token_price(PriceConfig(prompt=price))


def test_cached_tokens_have_their_own_price() -> None:
    usage = Usage(prompt_tokens=1000, cached_tokens=600, completion_tokens=100, reasoning_tokens=40)
    assert cost(usage, TokenPrice(270_000, 70_000, 1_100_000)) == 400 * 270 + 600 * 70 + 100 * 1100


@given(PRICES, PRICES, PRICES, TOKENS, TOKENS, TOKENS)
def test_costs_are_rounded_once(prompt, cached, completion, tokens, hits, answer) -> None:
    hits = min(hits, tokens)
    usage = Usage(prompt_tokens=tokens, cached_tokens=hits, completion_tokens=answer)
    exact = Decimal((tokens - hits) * prompt + hits * cached + answer * completion) / 1000
    found = cost(usage, TokenPrice(prompt, cached, completion))
    assert found == int(exact.quantize(Decimal(1), ROUND_HALF_UP))
