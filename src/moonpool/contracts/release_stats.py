"""What every gateway tells of each release about once a second: the numbers that releases are compared by.

Sums and sparse histograms, never single requests, so that a report is small at any load and reports of
several gateways add up. `gateway` and `sequence` name a report, for whoever must not count one twice.
"""

import math
from typing import Annotated

import msgspec

TOPIC = "release_stats"
MIRRORED = "mirror"
"""The kind of traffic of copies; everything else is "live"."""

LOWEST = 0.0005
"""Seconds: the upper bound of the first bucket."""
PER_DOUBLING = 4
"""Buckets a factor of two: a bucket's middle is within 9 % of all that is in it."""
BUCKETS = 80
"""Up to LOWEST * 2^(79/4): ten minutes."""
_SCALE = PER_DOUBLING / math.log(2.0)
_OFFSET = math.log(LOWEST) * _SCALE


def bucket(seconds: float) -> int:
    """The bucket of a time: 0 for all up to LOWEST, the last one for all that is longer."""
    if seconds <= LOWEST:
        return 0
    place = math.ceil(math.log(seconds) * _SCALE - _OFFSET)
    return place if place < BUCKETS else BUCKETS - 1


def middle(index: int) -> float:
    """The time that stands for a bucket: the geometric middle."""
    return float(LOWEST * 2.0 ** ((index - 0.5) / PER_DOUBLING)) if index else LOWEST


Cells = Annotated[dict[int, int], msgspec.Meta(max_length=BUCKETS)]


class Times(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Times in seconds: how many, their sum, and how many by bucket. The logarithms' sums give the mean and
    the spread that comparisons use (times of requests are about log-normal)."""

    count: int = 0
    sum: float = 0.0
    logs: float = 0.0
    squares: float = 0.0
    cells: Cells = {}

    def add(self, other: "Times") -> None:
        self.count += other.count
        self.sum += other.sum
        self.logs += other.logs
        self.squares += other.squares
        cells = dict(self.cells)
        for index, number in other.cells.items():
            cells[index] = cells.get(index, 0) + number
        self.cells = cells

    def quantile(self, share: float) -> float | None:
        """The time below which `share` of them are; None without any."""
        wanted, seen = share * self.count, 0
        for index in sorted(self.cells):
            seen += self.cells[index]
            if seen >= wanted:
                return middle(index)
        return None


class ReleaseCounts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Of one release in the time of one report. `errors` are answers that failed by the platform's fault: 5xx
    and broken streams; a client that left is neither good nor bad and counts in `left` only."""

    service: str
    release: str
    kind: str = "live"
    started: int = 0
    ended: int = 0
    errors: int = 0
    left: int = 0
    active: int = 0
    """Under way at the end of the report: not a sum over time."""
    seconds: Times = msgspec.field(default_factory=Times)
    first: Times = msgspec.field(default_factory=Times)
    gaps: Times = msgspec.field(default_factory=Times)
    tokens: int = 0
    cost: int = 0
    """In the smallest unit of money, where prices are known; 0 otherwise."""


class ReleaseReport(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`routing` is the version of the routing document that the gateway had applied by `service`, "" unknown.
    Sent also when nothing happened: silence means that a gateway is away, zeros that it has no traffic."""

    gateway: str
    sequence: int
    at: float
    seconds: float
    counts: list[ReleaseCounts] = []
    routing: dict[str, int] = {}
