"""How often something happens to the answers of two releases: errors, clients that leave. Pure.

A release that has just begun has ended its quickest answers only, and failures are often quick. So it is
suspected by what it has begun, with what is still under way taken for good (`Backlog`), and praised only when
that is little beside what has ended.
"""

import msgspec

from moonpool.contracts.release_stats import ReleaseCounts
from moonpool.contracts.upgrades import MetricView
from moonpool.upgrade.sequential import Effect, RateTest, word

PRIOR_HITS, PRIOR_COUNT = 0.5, 50.0
"""What a rate is taken for before anything is known of it: 1 %, weakly."""


MATURE = 10
"""So many answers must have ended for each that is under way before anything may be called better."""


class Backlog(msgspec.Struct, kw_only=True):
    """What the new release has under way, from what it started and ended. Attempts that were repeated end
    more often than requests start: then nothing is taken to be under way."""

    pending: int = 0
    ended: int = 0

    def begun(self, counts: ReleaseCounts) -> int:
        """How many answers of this window there are, or will be: those that ended, and by how much the
        backlog has grown."""
        before = self.pending
        self.pending = max(before + counts.started - counts.ended, 0)
        self.ended += counts.ended
        return max(counts.ended + self.pending - before, 0)

    @property
    def mature(self) -> bool:
        return self.ended >= MATURE * self.pending


class RateComparison(msgspec.Struct, kw_only=True):
    name: str
    worse: RateTest
    better: RateTest = msgspec.field(default_factory=RateTest)
    effect: Effect = msgspec.field(default_factory=lambda: Effect(scale=0.01))
    old: int = 0
    old_hits: int = 0
    new: int = 0
    new_hits: int = 0
    carried: int = 0
    """Hits of the new release in windows in which it began less: they count in the next ones."""

    def observe(self, old: tuple[int, int], new: tuple[int, int], begun: int, mature: bool) -> None:
        """One window: how many ended, and how many of them were hits. `begun` and `mature` are those of the
        new release's backlog."""
        (n0, k0), (n1, k1) = old, new
        self.carried += k1
        if n0 and begun:
            hits = min(self.carried, begun)
            self.carried -= hits
            self.worse.observe(n0, k0, begun, hits, _prior(self.old, self.old_hits))
        if mature:
            self.better.observe(n1, k1, n0, k0, _prior(self.new, self.new_hits))
        if n0 and n1:
            self.effect.observe(n0, k0 / n0, n1, k1 / n1)
        self.old += n0
        self.old_hits += k0
        self.new += n1
        self.new_hits += k1

    def view(self, alpha: float) -> MetricView:
        """The effect is in points of rate."""
        low, high = self.effect.interval(
            _variance(self.old, self.old_hits), _variance(self.new, self.new_hits), alpha
        ) or (None, None)
        return MetricView(
            name=self.name,
            old=self.old_hits / self.old if self.old else None,
            new=self.new_hits / self.new if self.new else None,
            effect=self.effect.mean,
            low=low,
            high=high,
            p=self.worse.evidence.p,
            verdict=word(self.effect, self.worse.evidence, self.better.evidence, alpha),
        )


def _prior(count: int, hits: int) -> float:
    return (hits + PRIOR_HITS) / (count + PRIOR_COUNT)


def _variance(count: int, hits: int) -> float:
    """Of one answer; never nothing, since "none so far" is no certainty."""
    rate = (hits + 0.5) / (count + 1.0)
    return rate * (1.0 - rate)
