"""What was decided about a request, by whom, why and when: the trace an operator reads.

A decision is a plain tuple on the hot path (`Context.decide` appends one); it gets its names when it
is stored or shown. Flags follow Envoy's response flags where one exists: a small fixed vocabulary by
which requests can be counted and ranked.
"""

from enum import StrEnum
from typing import NamedTuple


class Flag(StrEnum):
    """Why an answer is not the plain one. The first eight are Envoy's."""

    NO_HEALTHY_UPSTREAM = "UH"
    UPSTREAM_CONNECT_FAILED = "UF"
    OVERFLOW = "UO"
    RETRIES_EXHAUSTED = "URX"
    UPSTREAM_TIMEOUT = "UT"
    CLIENT_GONE = "DC"
    RATE_LIMITED = "RL"
    UPSTREAM_RESET = "UC"
    FIRST_TOKEN_TIMEOUT = "FT"  # noqa: S105 - not that kind of token
    STALL = "ST"
    TRUNCATED = "TR"
    MALFORMED = "MF"
    MIGRATED = "MG"
    BUDGET_DENIED = "BD"
    STALE = "SA"
    DEGRADED = "DG"


class Decision(NamedTuple):
    """`at` is seconds of the monotonic clock; `filter` and `verdict` are short fixed words."""

    filter: str
    verdict: str
    reason: str
    at: float
