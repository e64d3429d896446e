"""Which of 10,000 buckets a caller is in, and which release a bucket belongs to. Pure.

A caller's bucket depends on the salt and on who he is, on nothing else: it is the same in every gateway,
after every restart, without a cookie and without a store. Shares are laid out so that a growing one only
gains buckets:

    0 ──► first other release      default        second other release ◄── 10,000

With more than three releases those behind the first and the second move when these grow.
"""

import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TypeVar

from moonpool.contracts.routing import FULL

CACHED = 65_536
"""Callers whose bucket is remembered (about 10 MB at most): an HMAC takes a microsecond, a look-up a
twentieth of that."""


def bucket_of(salt: bytes, unit: str) -> int:
    """0 … 9,999. HMAC, so that who knows his own bucket learns nothing of others', nor can choose it."""
    return int.from_bytes(hmac.digest(salt, unit.encode(), sha256)[:8], "big") % FULL


def network_of(peer: str) -> str:
    """An IPv6 address without its last 64 bits: hosts change them every day (RFC 8981), and with a
    bucket by the whole address an anonymous caller would change releases with them."""
    if ":" not in peer:
        return peer
    try:
        address = ipaddress.IPv6Address(peer)
    except ipaddress.AddressValueError:
        return peer
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


class Buckets:
    """Remembers buckets. Not shared by threads."""

    def __init__(self, salt: str, limit: int = CACHED) -> None:
        self._salt = salt.encode()
        self._limit = limit
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}

    def of(self, unit: str) -> int:
        """The bucket of a user, a tenant, a conversation."""
        bucket = self._young.get(unit)
        return self._older(unit, unit) if bucket is None else bucket

    def of_address(self, peer: str) -> int:
        """The bucket of a caller of whom only the address is known."""
        bucket = self._young.get(peer)
        return self._older(peer, network_of(peer)) if bucket is None else bucket

    def _older(self, name: str, unit: str) -> int:
        # Two generations instead of an order of use: a hit in the young one writes nothing.
        bucket = self._old.get(name)
        if bucket is None:
            bucket = bucket_of(self._salt, unit)
        if len(self._young) >= self._limit // 2:
            self._old, self._young = self._young, {}
        self._young[name] = bucket
        return bucket

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


Run = tuple[str, int]
"""A release and the bucket after its last one; its first is where the run before ends."""


def runs(weights: Mapping[str, int], default: str) -> list[Run]:
    """The layout of the module's drawing. `weights` add up to 10,000, in the order of the document."""
    others = [(label, weight) for label, weight in weights.items() if label != default]
    end = others[1:2]
    middle = (default, weights.get(default, 0))
    found, place = [], 0
    for label, weight in (*others[:1], *others[2:], middle, *end):
        place += weight
        if weight:
            found.append((label, place))
    return found


T = TypeVar("T")


def table(runs: Sequence[Run], answers: Mapping[str, T]) -> tuple[T, ...]:
    """The answer of every bucket."""
    cells: list[T] = []
    for label, end in runs:
        cells += [answers[label]] * (end - len(cells))
    return tuple(cells)
