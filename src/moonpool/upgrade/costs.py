"""What answers cost with two releases: tokens of prompt and answer, from totals. Pure.

Gateways report sums, not what each answer cost. So answers are put together to blocks, and blocks to pairs of
the same time: if new costs no more, it is the dearer one in half of the pairs at most. A margin keeps the
skewness of sums from deciding.
"""

import math

import msgspec

from moonpool.contracts.release_stats import ReleaseCounts
from moonpool.contracts.upgrades import MetricView
from moonpool.upgrade.sequential import Effect, SignTest, word

BLOCK = 20
"""Answers of each release in a block."""


class Spent(msgspec.Struct, kw_only=True):
    answers: int = 0
    tokens: int = 0

    def add(self, counts: ReleaseCounts) -> None:
        # What failed or was left has few tokens or none: a release must not look cheap for it.
        self.answers += max(counts.ended - counts.errors - counts.left, 0)
        self.tokens += counts.tokens

    @property
    def each(self) -> float | None:
        """Tokens an answer; None where none are counted."""
        return self.tokens / self.answers if self.tokens else None


class CostComparison(msgspec.Struct, kw_only=True):
    margin: float = 0.1
    worse: SignTest = msgspec.field(default_factory=SignTest)
    better: SignTest = msgspec.field(default_factory=SignTest)
    effect: Effect = msgspec.field(default_factory=lambda: Effect(scale=0.1))
    squares: float = 0.0
    pairs: int = 0
    old: Spent = msgspec.field(default_factory=Spent)
    new: Spent = msgspec.field(default_factory=Spent)
    old_block: Spent = msgspec.field(default_factory=Spent)
    new_block: Spent = msgspec.field(default_factory=Spent)

    def observe(self, old: ReleaseCounts, new: ReleaseCounts) -> None:
        self.old.add(old)
        self.new.add(new)
        self.old_block.add(old)
        self.new_block.add(new)
        if min(self.old_block.answers, self.new_block.answers) < BLOCK:
            return
        was, now = self.old_block.each, self.new_block.each
        self.old_block, self.new_block = Spent(), Spent()
        if was is None or now is None:
            return
        self.worse.observe(now > was * (1.0 + self.margin))
        self.better.observe(was > now * (1.0 + self.margin))
        log = math.log(now / was)
        self.pairs += 1
        self.squares += log * log
        self.effect.observe(1, 0.0, 1, log)

    def view(self, alpha: float) -> MetricView:
        mean = self.effect.mean
        variance = 0.0 if mean is None else max(self.squares / self.pairs - mean * mean, 1e-6)
        interval = self.effect.interval(0.0, variance, alpha)
        if interval is not None and self.pairs < 2:
            interval = None
        return MetricView(
            name="tokens",
            old=self.old.each,
            new=self.new.each,
            effect=None if mean is None else math.expm1(mean),
            low=None if interval is None else math.expm1(interval[0]),
            high=None if interval is None else math.expm1(interval[1]),
            p=self.worse.evidence.p,
            verdict=word(self.effect, self.worse.evidence, self.better.evidence, alpha),
        )
