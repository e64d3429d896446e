"""What a client gets of every fault: the specification that test_fault_matrix.py holds the platform to.

Four expectations a fault: for a whole answer and for a stream, without another instance of the model (alone)
and with one (other).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.exchanges import Ending


@dataclass(frozen=True)
class Expect:
    """`status` and `codes` are of an error; `continued`: by another instance, after the first token."""

    ending: Ending
    status: int = 200
    codes: frozenset[str] = frozenset()
    retried: bool = False
    continued: bool = False
    fallback: str = ""


WELL = Expect(Ending.ANSWERED)
"""At the first attempt."""
RETRIED = Expect(Ending.ANSWERED, retried=True)
"""At the second one: `x-moonpool-attempts: 2`, and a decision of retry or failover."""
CONTINUED = Expect(Ending.ANSWERED, continued=True)
"""The undisturbed text, one id, one usage that counts each token once; flag MG, a decision of failover."""


def refused(*codes: str, status: int = 503) -> Expect:
    """All attempts failed (at most 3): an error object in the words of what failed, with Retry-After and
    `x-moonpool-fallback: degraded`. A 429 stays a 429, which is nobody's failure."""
    return Expect(Ending.REFUSED, status, frozenset(codes), fallback="degraded" if status == 503 else "")


def broken(*codes: str) -> Expect:
    """The head has left, and nobody can continue: `data: {"error": ...}` ends it, without `[DONE]`."""
    return Expect(Ending.BROKEN, codes=frozenset(codes))


Fault = dict[str, Any]
Pair = tuple[Expect, Expect]
"""For a whole answer, and for a stream."""


class Row(NamedTuple):
    """`whole` and `stream`: the injector's fault for the two ways to ask; None: it does not apply."""

    whole: Fault | None
    stream: Fault | None
    alone: Pair
    other: Pair


def row(faults: tuple[Fault | None, Fault | None], alone: Expect | Pair, other: Expect | Pair) -> Row:
    def pair(each: Expect | Pair) -> Pair:
        return each if isinstance(each, tuple) else (each, each)

    return Row(*faults, pair(alone), pair(other))


def both(kind: str, **how: Any) -> tuple[Fault, Fault]:
    fault = {"kind": kind, **how}
    return fault, fault


def status(code: int, **how: Any) -> tuple[Fault, Fault]:
    return both("status", status=code, **how)


def truncate(how: str, after: int) -> Fault:
    return {"kind": "truncate", "how": how, "after": after}


def huge(how: str, size: int = 1 << 22) -> Fault:
    return {"kind": "huge", "how": how, "bytes": size}


CONNECT, RESET, CUT = "upstream_connect_failed", "upstream_reset", "upstream_truncated"
BAD, SLOW, STALLED = "upstream_malformed", "upstream_first_byte_timeout", "upstream_stalled"
LIMITED, INJECTED = "rate_limit_exceeded", "injected"
STOPS = (refused(RESET, CUT), broken(RESET, CUT))
MOVED = (RETRIED, CONTINUED)
"""A whole answer is asked for again, since the client has seen none of it; a stream is continued."""

# fmt: off
TABLE: dict[str, Row] = {
    # before the first content byte: another instance answers, or 503 says why none does
    "refuse":      row(both("refuse"),                     refused(CONNECT), RETRIED),
    "reset":       row(both("reset"),                      refused(RESET), RETRIED),
    "stall":       row(both("stall"),                      refused(SLOW), RETRIED),
    "stall-token": row(both("stall", after=0),             refused(SLOW, STALLED), RETRIED),
    "not-http":    row(both("malformed", how="head"),      refused(BAD), RETRIED),
    "not-json":    row(both("malformed", how="body"),      refused(BAD, CUT), RETRIED),
    "huge-head":   row((huge("head"), huge("head")),       refused(BAD), RETRIED),
    "huge":        row((huge("body"), huge("event")),      refused(BAD, CUT), RETRIED),
    "429":         row(status(429, retry_after=1),         refused(LIMITED, status=429), RETRIED),
    "500":         row(status(500),                        refused(INJECTED), RETRIED),
    "502":         row(status(502),                        refused(INJECTED), RETRIED),
    "503":         row(status(503, retry_after=1),         refused(INJECTED), RETRIED),
    "told":        row((None, {"kind": "malformed", "how": "error", "after": 0}), refused(INJECTED), RETRIED),
    # after it: a stream is continued where it broke, or ends with an error event
    "reset-mid":   row(both("reset", after=3),             STOPS, MOVED),
    "stall-mid":   row(both("stall", after=3),             (refused(STALLED), broken(STALLED)), MOVED),
    "truncate":    row((truncate("length", 2), truncate("chunk", 5)), STOPS, MOVED),
    "cut-chunked": row((truncate("chunk", 2), None),       STOPS, MOVED),
    "no-done":     row((None, truncate("done", 5)),        STOPS, MOVED),
    "bad-chunk":   row(both("malformed", how="chunk", after=3), (refused(BAD), broken(BAD)), MOVED),
    "bad-event":   row((None, {"kind": "malformed", "how": "event", "after": 3}), broken(BAD), MOVED),
    # slow is not broken
    "trickle":     row(both("trickle", gap=0.02, bytes=64), WELL, WELL),
}
# fmt: on
SHARES = {"5%": 0.05, "50%": 0.5, "100%": 1.0}
"""Of requests that are answered 500. With another instance: all answered. Alone: at 5 % all answered, at 50 %
at least a quarter, at 100 % none; the others refused, none left hanging."""
