"""One usage event: what one completed (or broken-off) call of a model consumed. Billing counts each
`id` exactly once, whatever was killed on the way."""

import msgspec

TOPIC = "usage"
"""Each event of the log carries many usage events: JSON, one a line."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens. `cached_tokens` is the part of `prompt_tokens` that came from a prompt cache;
    `reasoning_tokens` is part of `completion_tokens`."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0


class TokenPrice(msgspec.Struct, frozen=True, array_like=True):
    """Pico-units of the currency a token (contracts/money.py)."""

    prompt: int
    cached_prompt: int
    completion: int


class Bill(msgspec.Struct, frozen=True, array_like=True):
    """By what a usage event is billed: the price when its request was let in, and who let it in."""

    price: TokenPrice
    source: str = ""
    """The spender that has charged it already (contracts/balances.py)."""


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True):
    """`id` equals the request's id: one logical request is metered once, whatever its attempts.

    `outcome`: completed, cancelled (client left), failed (broke after the first byte) or interrupted
    (the gateway itself was killed; counts are those last journalled). `estimated` tells that the
    endpoint reported no usage and tokens were counted by events.
    """

    id: str
    at: float
    user: str
    tenant: str
    key: str
    route: str
    model: str
    target: str
    release: str
    usage: Usage
    streamed: bool
    outcome: str = "completed"
    estimated: bool = False
    bill: Bill | msgspec.UnsetType = msgspec.UNSET
    """Unset: it cost nothing."""
