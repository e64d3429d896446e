"""Whether a kept answer may be used: its age, the route's policy, and what the client asks for. Pure.

RFC 9111 §5.2.1 has the request's directives, RFC 5861 the two uses of what is stale.
"""

import math
from enum import Enum

import msgspec

from moonpool.contracts.manifest import Cached

MOST = 2**31
"""Seconds; larger numbers count as this (RFC 9111 §1.2.2)."""


class Use(Enum):
    FRESH = "fresh"
    ACCEPTED = "accepted"
    """Stale, and the client has said that it takes it so."""
    RENEW = "renew"
    """Stale; answered at once and renewed behind the answer."""
    ON_ERROR = "on_error"
    """Only when everything else failed."""
    NONE = "none"


class Wishes(msgspec.Struct, frozen=True, gc=False):
    """A request's `Cache-Control`, in seconds."""

    no_store: bool = False
    no_cache: bool = False
    only_if_cached: bool = False
    max_age: float = math.inf
    min_fresh: float = 0.0
    max_stale: float = 0.0


NO_WISHES = Wishes()


def wishes(cache_control: bytes | None) -> Wishes:
    """Directives that are unknown or malformed are passed over, a number that is none is 0: the careful
    reading (RFC 9111 §4.2.1 encourages it)."""
    if cache_control is None:
        return NO_WISHES
    found: dict[str, str] = {}
    for part in cache_control.decode("latin-1").split(","):
        name, _, value = part.strip().partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return Wishes(
        no_store="no-store" in found,
        no_cache="no-cache" in found,
        only_if_cached="only-if-cached" in found,
        max_age=_seconds(found["max-age"]) if "max-age" in found else math.inf,
        min_fresh=_seconds(found.get("min-fresh", "")),
        max_stale=_stale(found),
    )


def judge(age: float, policy: Cached, wished: Wishes) -> Use:
    """What an answer of `age` seconds is good for. A client's bound can only make it less."""
    staleness = age - policy.fresh
    if age > wished.max_age or (wished.max_age == 0.0 and age >= 0.0):
        return Use.ON_ERROR if staleness <= policy.if_error else Use.NONE
    if staleness + wished.min_fresh < 0.0:
        return Use.FRESH
    if 0.0 <= staleness < wished.max_stale:
        return Use.ACCEPTED
    if 0.0 <= staleness <= policy.while_revalidating and not wished.min_fresh:
        return Use.RENEW
    return Use.ON_ERROR if staleness <= policy.if_error else Use.NONE


def _seconds(text: str) -> float:
    return float(min(int(text), MOST)) if text.isascii() and text.isdigit() and len(text) < 20 else 0.0


def _stale(found: dict[str, str]) -> float:
    """Without a number: however stale (RFC 9111 §5.2.1.2)."""
    value = found.get("max-stale")
    if value is None:
        return 0.0
    return math.inf if value == "" else _seconds(value)
