"""From the bytes of the event log to a usage event that the database can hold. Pure."""

from typing import Annotated

import msgspec
from msgspec import Meta

from moonpool.contracts.money import HIGHEST_AMOUNT, HIGHEST_PRICE, cost
from moonpool.contracts.usage import Bill, TokenPrice, Usage, UsageEvent

MOST_TOKENS = 2**40
"""More than any request, and few enough that millions of events add up within 64 bits."""
LATEST = 253_402_300_800.0
"""Unix seconds of the year 10000."""
_Id = Annotated[str, Meta(max_length=200)]
_Text = Annotated[str, Meta(max_length=2000)]
_Tokens = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]


class _Usage(Usage, frozen=True, kw_only=True):
    prompt_tokens: _Tokens = 0
    cached_tokens: _Tokens = 0
    completion_tokens: _Tokens = 0
    reasoning_tokens: _Tokens = 0


_Price = Annotated[int, Meta(ge=0, le=HIGHEST_PRICE)]


class _TokenPrice(TokenPrice, frozen=True, array_like=True):
    prompt: _Price
    cached_prompt: _Price
    completion: _Price


class _Bill(Bill, frozen=True, array_like=True):
    price: _TokenPrice
    source: Annotated[str, Meta(max_length=64)] = ""


class _Event(UsageEvent, frozen=True, kw_only=True):
    """Bounds that are checked while parsing: three times as fast as afterwards, and every request that
    there is comes by here."""

    id: Annotated[str, Meta(min_length=1, max_length=200)]
    at: Annotated[float, Meta(ge=0.0, lt=LATEST)]
    user: _Id
    tenant: _Id
    key: _Id
    route: _Text
    model: _Text
    target: _Text
    release: _Text
    usage: _Usage
    outcome: Annotated[str, Meta(max_length=32)] = "completed"
    bill: _Bill | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(_Event)


class Unreadable(Exception):
    """An event that never will be stored; its text is the reason."""


def decode(value: bytes) -> UsageEvent:
    """Raises Unreadable."""
    try:
        event = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(str(error)) from None
    if isinstance(event.bill, Bill) and cost(event.usage, event.bill.price) > HIGHEST_AMOUNT:
        raise Unreadable("it costs more than any request can")
    if b"\\u0000" in value:  # as JSON must write it; it may also be a backslash before "u0000"
        for name in event.__struct_fields__:
            field = getattr(event, name)
            if isinstance(field, str) and "\0" in field:
                raise Unreadable(f"{name} has a NUL character, which PostgreSQL cannot store")
    return event
