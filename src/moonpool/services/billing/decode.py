"""From the bytes of the event log to a usage event that the database can hold. Pure."""

import msgspec

from moonpool.contracts.usage import UsageEvent

MOST_TOKENS = 2**40
"""More than any request, and few enough that millions of events add up within 64 bits."""
LATEST = 253_402_300_800.0
"""Unix seconds of the year 10000."""
_LONGEST_ID = 200
_LONGEST_TEXT = 2000

_decoder = msgspec.json.Decoder(UsageEvent)


class Unreadable(Exception):
    """An event that never will be stored; its text is the reason."""


def decode(value: bytes) -> UsageEvent:
    """Raises Unreadable."""
    try:
        event = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(str(error)) from None
    if not event.id:
        raise Unreadable("the event has no id")
    if not 0.0 <= event.at < LATEST:
        raise Unreadable(f"the time {event.at!r} is out of range")
    for name in ("id", "tenant", "user", "key", "outcome"):
        _check_text(name, getattr(event, name), 32 if name == "outcome" else _LONGEST_ID)
    for name in ("route", "model", "target", "release"):
        _check_text(name, getattr(event, name), _LONGEST_TEXT)
    for name in event.usage.__struct_fields__:
        count = getattr(event.usage, name)
        if not 0 <= count <= MOST_TOKENS:
            raise Unreadable(f"{name} is out of range: {count}")
    return event


def _check_text(name: str, text: str, longest: int) -> None:
    if len(text) > longest:
        raise Unreadable(f"{name} is longer than {longest} characters")
    if "\0" in text:
        raise Unreadable(f"{name} has a NUL character, which PostgreSQL cannot store")
