"""What every gateway tells of each release about once a second: the numbers that releases are compared by.

Sums and sparse histograms, never single requests, so that a report is small at any load and reports of
several gateways add up. `gateway` and `sequence` name a report, for whoever must not count one twice.
"""

from typing import Annotated

import msgspec

TOPIC = "release_stats"
LOWEST = 0.0005
"""Seconds: the upper bound of the first bucket."""
PER_DOUBLING = 4
"""Buckets a factor of two: a bucket's middle is within 9 % of all that is in it."""
BUCKETS = 80
"""Up to LOWEST * 2^(79/4): ten minutes."""
BOUNDS = tuple(LOWEST * 2.0 ** (index / PER_DOUBLING) for index in range(BUCKETS - 1))
"""Upper bounds; the last bucket has none. `bisect_left(BOUNDS, seconds)` is a time's bucket."""


def middle(index: int) -> float:
    """The time that stands for a bucket: the geometric middle."""
    return float(LOWEST * 2.0 ** ((index - 0.5) / PER_DOUBLING)) if index else LOWEST


Cells = Annotated[dict[int, int], msgspec.Meta(max_length=BUCKETS)]


class Times(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Times in seconds: how many, their sum, and how many by bucket. The sums of their natural logarithms and
    of those squared give mean and spread as comparisons use them: times of requests are about log-normal."""

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
    """Of one release in the time of one report.

    `started` counts what the router sent to it. `ended` and `errors` count attempts at its instances: one
    that failed is an error of its release also when another one answered the client in the end. An error is
    a 5xx, no answer, or one that broke off; where the client left, which is part of `ended`, nothing else is
    counted. `first` is the time to the first token of streams, `gaps` the mean time between chunks of each.
    """

    service: str
    release: str
    started: int = 0
    ended: int = 0
    errors: int = 0
    left: int = 0
    mirrored: int = 0
    """Of `ended`, copies: nobody saw their answers."""
    seconds: Times = msgspec.field(default_factory=Times)
    first: Times = msgspec.field(default_factory=Times)
    gaps: Times = msgspec.field(default_factory=Times)
    tokens: int = 0
    """Of prompts and answers."""
    priced: int = 0
    """Answers whose price is known, and the tokens of those: what `cost` (nano-units) is for."""
    priced_tokens: int = 0
    cost: int = 0

    def add(self, other: "ReleaseCounts") -> None:
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("seconds", "first", "gaps"):
            getattr(self, name).add(getattr(other, name))


_SUMS = (
    "started",
    "ended",
    "errors",
    "left",
    "mirrored",
    "tokens",
    "priced",
    "priced_tokens",
    "cost",
)


class ReleaseReport(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`routing` are the versions of the routing documents that the gateway follows, by service. Sent while
    an upgrade runs, also when nothing happened: silence means that a gateway is away, zeros that it has no
    traffic."""

    gateway: str
    sequence: int
    at: float
    seconds: float
    counts: list[ReleaseCounts] = []
    routing: dict[str, int] = {}
    capped: list[str] = []
    """Services that were shared out otherwise than their document says, for want of ready instances: their
    split says nothing about whether requests get lost."""
