"""Times of two releases compared, from histograms: robust against any shape and any outlier. Pure.

At each of four levels the question is a rate: how often is a release slower than the old release's
median, 75th, 90th, 95th percentile was until now? If new is no slower, it is beyond them no more often than
old is in the same window: that is the hypothesis of RateTest, without any assumption on how times are
distributed. The mean of the four e-values is an e-value; a shift of the whole shows at the median, a bad tail
at the last.
"""

import math

import msgspec

from moonpool.contracts.release_stats import BUCKETS, PER_DOUBLING, Times, middle
from moonpool.contracts.upgrades import MetricView
from moonpool.upgrade.sequential import Effect, Evidence, RateTest, mixed, word

LEVELS = (0.5, 0.75, 0.9, 0.95)
KNOWN = 20
"""Times of a release that must be known before its levels are."""
LOGS = tuple(math.log(middle(index)) for index in range(BUCKETS))
"""What a time in a bucket counts as in the mean of logarithms."""


def shift_of(margin: float) -> int:
    """Buckets by which new may be slower: the margin rounded up to what histograms can tell (19 %)."""
    return math.ceil(round(math.log2(1.0 + margin) * PER_DOUBLING, 9))


class Slower(msgspec.Struct, kw_only=True):
    """Whether `suspect` is slower than `reference` by more than `shift` buckets."""

    shift: int = 0
    tests: list[RateTest] = msgspec.field(default_factory=lambda: [RateTest() for _ in LEVELS])
    evidence: Evidence = msgspec.field(default_factory=Evidence)

    def observe(self, past: Times, reference: Times, suspect: Times) -> None:
        """`past` is what was known of the reference before this window."""
        if past.count < KNOWN or not reference.count or not suspect.count:
            return
        for test, bound in zip(self.tests, _bounds(past), strict=True):
            test.observe(
                reference.count,
                _beyond(reference, bound),
                suspect.count,
                _beyond(suspect, bound + self.shift),
                (_beyond(past, bound) + 0.5) / (past.count + 1.0),
            )
        self.evidence.becomes(mixed([test.evidence.log for test in self.tests]))


class TimesComparison(msgspec.Struct, kw_only=True):
    name: str
    worse: Slower
    better: Slower = msgspec.field(default_factory=Slower)
    effect: Effect = msgspec.field(default_factory=lambda: Effect(scale=0.1))
    old: Times = msgspec.field(default_factory=Times)
    new: Times = msgspec.field(default_factory=Times)

    @classmethod
    def begin(cls, name: str, margin: float) -> "TimesComparison":
        return cls(name=name, worse=Slower(shift=shift_of(margin)))

    def observe(self, old: Times, new: Times, mature: bool) -> None:
        """One window; each time must come from another stream. `mature`: as rates.py has it."""
        self.worse.observe(self.old, old, new)
        if mature:
            self.better.observe(self.new, new, old)
        if old.count and new.count:
            self.effect.observe(old.count, _logs(old)[0], new.count, _logs(new)[0])
        self.old.add(old)
        self.new.add(new)

    def view(self, alpha: float) -> MetricView:
        """Medians; the effect is of the geometric means, as a part of the old one's."""
        interval = self.effect.interval(_logs(self.old)[1], _logs(self.new)[1], alpha)
        mean = self.effect.mean
        return MetricView(
            name=self.name,
            old=self.old.quantile(0.5) if self.old.count else None,
            new=self.new.quantile(0.5) if self.new.count else None,
            effect=None if mean is None else _relative(mean),
            low=None if interval is None else _relative(interval[0]),
            high=None if interval is None else _relative(interval[1]),
            p=self.worse.evidence.p,
            verdict=word(self.effect, self.worse.evidence, self.better.evidence, alpha),
        )


def _bounds(past: Times) -> list[int]:
    """The bucket of every level: what is in a higher one is beyond it."""
    found: list[int] = []
    seen = 0
    for index in sorted(past.cells):
        seen += past.cells[index]
        while len(found) < len(LEVELS) and seen >= LEVELS[len(found)] * past.count:
            found.append(index)
    return found + [BUCKETS] * (len(LEVELS) - len(found))


def _beyond(times: Times, bound: int) -> int:
    """How many are beyond the bucket `bound`. The last bucket of all holds everything longer, and cannot be
    told apart from itself."""
    bound = min(bound, BUCKETS - 2)
    return sum(count for index, count in times.cells.items() if index > bound)


def _logs(times: Times) -> tuple[float, float]:
    """Mean and variance of the logarithms; times of requests are about log-normal."""
    if not times.count:
        return 0.0, 0.0
    mean = math.fsum(LOGS[index] * count for index, count in times.cells.items()) / times.count
    square = math.fsum((LOGS[index] - mean) ** 2 * count for index, count in times.cells.items())
    return mean, square / times.count


def _relative(log: float) -> float:
    return math.expm1(min(log, 50.0))
