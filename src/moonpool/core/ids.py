"""Identifiers of stored things: `PREFIX_` and 26 characters that sort by time of creation.

The layout is ULID's: 48 bits of Unix milliseconds and 80 random bits in Crockford's base 32 (lower case
here; no i, l, o, u, so that ids can be read aloud). Lists can be cut at an id: it is a cursor.
"""

import secrets

from moonpool.core.clock import SYSTEM_CLOCK, Clock

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 26
_RANDOM_BITS = 80


def new_id(prefix: str, clock: Clock = SYSTEM_CLOCK) -> str:
    """A new id such as `key_01k2…`."""
    return f"{prefix}_{sortable(clock)}"


def sortable(clock: Clock = SYSTEM_CLOCK) -> str:
    """The part of an id that follows its prefix."""
    milliseconds = int(clock.time() * 1000) & (1 << 48) - 1
    return encode(milliseconds << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS), LENGTH)


def encode(number: int, length: int) -> str:
    """`number` in Crockford's base 32, with exactly `length` characters (5 bits each)."""
    return "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(length)))
