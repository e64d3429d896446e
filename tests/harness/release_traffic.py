"""Simulated traffic of two releases, second by second, as gateways would report it."""

from bisect import bisect_left
from dataclasses import dataclass
from math import exp
from random import Random

from moonpool.contracts.release_stats import BOUNDS, ReleaseCounts, Times


@dataclass(frozen=True)
class Arm:
    """What a release does to a request: `errors` fail at once, `truncated` break off at the end of their
    time; times are log-normal around `first` seconds."""

    errors: float = 0.005
    truncated: float = 0.0
    first: float = 0.4
    spread: float = 0.5
    gap: float = 0.02
    tokens: int = 200
    price: int = 0
    """Nano-units a token; 0: none is known."""
    seconds: float = 0.0
    """How long an answer takes on average (exponential); 0: it ends in the second it began."""
    leave: float = 0.0


class Simulated:
    """One release. `at` counts seconds."""

    def __init__(self, arm: Arm, random: Random) -> None:
        self._arm = arm
        self._random = random
        self._ends: dict[int, list[str]] = {}

    def second(self, at: int, started: int) -> ReleaseCounts:
        arm, random = self._arm, self._random
        for _ in range(started):
            draw = random.random()
            fate = "error" if draw < arm.errors else "good"
            if fate == "good" and random.random() < arm.truncated:
                fate = "truncated"
            elif fate == "good" and random.random() < arm.leave:
                fate = "left"
            lasts = random.expovariate(1.0 / arm.seconds) if arm.seconds and fate != "error" else 0.0
            self._ends.setdefault(at + int(lasts), []).append(fate)
        ended = self._ends.pop(at, [])
        good = ended.count("good")
        tokens = sum(int(arm.tokens * exp(random.gauss(0.0, arm.spread))) for _ in range(good))
        return ReleaseCounts(
            service="inference",
            release="v",
            started=started,
            ended=len(ended),
            errors=ended.count("error") + ended.count("truncated"),
            left=ended.count("left"),
            first=self._times(arm.first, good),
            gaps=self._times(arm.gap, good),
            tokens=tokens,
            priced=good if arm.price else 0,
            priced_tokens=tokens if arm.price else 0,
            cost=tokens * arm.price,
        )

    def _times(self, middle: float, count: int) -> Times:
        cells: dict[int, int] = {}
        total = 0.0
        for _ in range(count):
            seconds = middle * exp(self._random.gauss(0.0, self._arm.spread))
            total += seconds
            index = bisect_left(BOUNDS, seconds)
            cells[index] = cells.get(index, 0) + 1
        return Times(count=count, sum=total, cells=cells)


def split(random: Random, rate: int, share: float) -> tuple[int, int]:
    """A second's requests to old and new: about `rate`, as arrivals come."""
    total = max(0, round(random.gauss(rate, rate**0.5)))
    new = sum(random.random() < share for _ in range(total))
    return total - new, new
