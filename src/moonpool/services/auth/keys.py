"""The text of an API key, and what is stored of it. Pure.

    sk-mp-<26 characters: the key's public id without "key_">-<32 characters: the secret, 160 bits>

Only an HMAC-SHA-256 of the whole text is stored, keyed with a pepper that is kept outside the database:
who reads the database can neither use a key nor try guesses. (A slow hash, as for passwords, would add
nothing against 160 random bits and cost every verification.)
"""

import hmac
import re
import secrets
from hashlib import sha256

import msgspec

from moonpool.core.clock import Clock
from moonpool.core.ids import ALPHABET, encode, sortable

ID_PREFIX = "key_"
_TEXT_PREFIX = "sk-mp-"
_SECRET_LENGTH = 32
_SECRET_BITS = 5 * _SECRET_LENGTH
_PATTERN = re.compile(rf"sk-mp-([{ALPHABET}]{{26}})-[{ALPHABET}]{{{_SECRET_LENGTH}}}")


class ApiKey(msgspec.Struct, frozen=True):
    """`id` may be shown to anyone, `text` to its owner, once."""

    id: str
    text: str

    def __repr__(self) -> str:
        return f"ApiKey({self.id})"  # the text must not get into a log by way of a traceback


def mint(clock: Clock) -> ApiKey:
    """A new key."""
    public = sortable(clock)
    secret = encode(secrets.randbits(_SECRET_BITS), _SECRET_LENGTH)
    return ApiKey(ID_PREFIX + public, f"{_TEXT_PREFIX}{public}-{secret}")


def parse(text: str) -> ApiKey | None:
    """The key that `text` is, or None when it cannot be one of ours."""
    match = _PATTERN.fullmatch(text)
    return None if match is None else ApiKey(ID_PREFIX + match[1], text)


def digest(pepper: bytes, text: str) -> str:
    """What is stored of a key: 64 hex digits."""
    return hmac.digest(pepper, text.encode(), sha256).hex()


def matches(pepper: bytes, text: str, stored: str) -> bool:
    """Whether `stored` is `text`'s digest, in a time that does not depend on where they differ."""
    return hmac.compare_digest(digest(pepper, text), stored)
