"""Money: amounts, prices, and what usage costs. Pure integers; floats stand in configuration files only.

Amounts are nano-units (10^-9) of the platform's one currency; 64 bits hold nine thousand million units of it.
Prices are millionths of the currency a million tokens, which is pico-units (10^-12) a token: each price with
up to six decimals is an integer. A usage event's cost is rounded once, half up, to the nano-unit.
"""

import re
from decimal import Decimal, InvalidOperation

import msgspec

from moonpool.contracts.usage import Bill, TokenPrice, Usage, UsageEvent

NANO = 10**9
"""Of an amount in one unit of the currency."""
MICRO = 10**6
"""Of a price in one unit of the currency a million tokens."""
HIGHEST_PRICE = 10_000 * MICRO
HIGHEST_AMOUNT = 10**6 * NANO
"""Of one credit, one request or an overdraft: a slip of the hand is likelier than a million."""
_AMOUNT = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?", re.ASCII)
_DECIMALS, _DIGITS = 9, 7
_BOUNDS = f"an amount has at most nine decimals and is at most {HIGHEST_AMOUNT // NANO}"


class PriceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """In the currency, per million tokens, with up to six decimals. What stands in a prompt cache costs
    `cached_prompt`; left out, as much as any prompt."""

    prompt: float = 0.0
    cached_prompt: float | None = None
    completion: float = 0.0


def token_price(price: PriceConfig | None) -> TokenPrice | None:
    """None for what costs nothing. Raises ValueError for a price that cannot be."""
    if price is None:
        return None
    prompt = _per_million(price.prompt)
    cached = prompt if price.cached_prompt is None else _per_million(price.cached_prompt)
    found = TokenPrice(prompt, cached, _per_million(price.completion))
    return found if any((found.prompt, found.cached_prompt, found.completion)) else None


def _per_million(price: float) -> int:
    try:
        exact = Decimal(repr(price)) * MICRO
        whole = int(exact)
    except (InvalidOperation, ValueError, OverflowError):
        raise ValueError("it is no number") from None
    if whole != exact or not 0 <= whole <= HIGHEST_PRICE:
        raise ValueError(
            f"a price is at least 0, at most {HIGHEST_PRICE // MICRO}, and has at most six decimals"
        )
    return whole


def cost(usage: Usage, price: TokenPrice) -> int:
    """Nano-units. Reasoning tokens are completion tokens, cached ones are prompt tokens."""
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    pico = (
        (usage.prompt_tokens - cached) * price.prompt
        + cached * price.cached_prompt
        + usage.completion_tokens * price.completion
    )
    return (pico + 500) // 1000


def cost_of(event: UsageEvent) -> int:
    """Nano-units; 0 for what is free."""
    return cost(event.usage, event.bill.price) if isinstance(event.bill, Bill) else 0


def nano(units: float) -> int:
    """An amount of a configuration file. Raises ValueError."""
    return amount_of(format(Decimal(repr(units)), "f"))


def amount_of(text: str) -> int:
    """ "12.50" as nano-units. Raises ValueError for what is no amount with at most nine decimals.

    Digits, a point, a minus sign before them: Decimal itself takes "1_0" for 10, " 1" and "1e3", too."""
    written = _AMOUNT.fullmatch(text)
    if written is None:
        raise ValueError(f"{text[:40]!r} is no amount")
    sign, units, decimals = written[1], written[2].lstrip("0"), (written[3] or "").rstrip("0")
    if len(decimals) > _DECIMALS or len(units) > _DIGITS:
        raise ValueError(_BOUNDS)
    whole = int(units or "0") * NANO + int(decimals.ljust(_DECIMALS, "0"))
    if whole > HIGHEST_AMOUNT:
        raise ValueError(_BOUNDS)
    return -whole if sign else whole


def spell(amount: int) -> str:
    """Exact, with two decimals or as many as it takes: "110.00", "0.009858"."""
    whole, part = divmod(abs(amount), NANO)
    decimals = f"{part:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if amount < 0 else ''}{whole}.{decimals}"
