"""What answers cost with two releases: money for their tokens, and tokens for an answer, from totals. Pure.

Gateways report sums, not what each answer cost. So answers are put together to blocks, and blocks to pairs of
the same time: if new costs no more, it is the dearer one in half of the pairs at most. A margin keeps the
skewness of sums from deciding.

Money is compared where a price is known of both, and only over the answers that have one: what is not known
is not taken for nothing. Tokens are compared always, since a wordy release costs more at the same price.
"""

import math

import msgspec

from moonpool.contracts.money import MICRO, NANO
from moonpool.contracts.release_stats import ReleaseCounts
from moonpool.contracts.upgrades import MetricView
from moonpool.upgrade.sequential import Effect, SignTest, word

BLOCK = 20
"""Answers of each release in a block."""
A_MILLION = MICRO / NANO
"""From nano-units a token to units of the currency a million tokens, which is how prices are written."""


class Spent(msgspec.Struct, kw_only=True):
    """`amount` for `units`, in so many answers: tokens for answers, or nano-units for tokens."""

    answers: int = 0
    amount: int = 0
    units: int = 0

    def add(self, other: "Spent") -> None:
        self.answers += other.answers
        self.amount += other.amount
        self.units += other.units

    @property
    def each(self) -> float | None:
        """None where nothing is counted."""
        return self.amount / self.units if self.units else None


def tokens_of(counts: ReleaseCounts) -> Spent:
    # What failed or was left has few tokens or none: a release must not look cheap for it.
    answers = max(counts.ended - counts.errors - counts.left, 0) if counts.tokens else 0
    return Spent(answers=answers, amount=counts.tokens, units=answers)


def money_of(counts: ReleaseCounts) -> Spent:
    return Spent(answers=counts.priced, amount=counts.cost, units=counts.priced_tokens)


class CostComparison(msgspec.Struct, kw_only=True):
    """`shown` is what one of the measure's units is, as it is told."""

    name: str
    margin: float = 0.1
    shown: float = 1.0
    worse: SignTest = msgspec.field(default_factory=SignTest)
    better: SignTest = msgspec.field(default_factory=SignTest)
    effect: Effect = msgspec.field(default_factory=lambda: Effect(scale=0.1))
    squares: float = 0.0
    pairs: int = 0
    old: Spent = msgspec.field(default_factory=Spent)
    new: Spent = msgspec.field(default_factory=Spent)
    old_block: Spent = msgspec.field(default_factory=Spent)
    new_block: Spent = msgspec.field(default_factory=Spent)

    def observe(self, old: Spent, new: Spent) -> None:
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
        if was <= 0.0 or now <= 0.0:  # rounded to nothing: dearer or not can be said, how many times cannot
            return
        log = math.log(now / was)
        self.pairs += 1
        self.squares += log * log
        self.effect.observe(1, 0.0, 1, log)

    def view(self, alpha: float, note: str = "") -> MetricView:
        mean = self.effect.mean
        variance = 0.0 if mean is None else max(self.squares / self.pairs - mean * mean, 1e-6)
        interval = self.effect.interval(0.0, variance, alpha)
        if interval is not None and self.pairs < 2:
            interval = None
        old, new = self.old.each, self.new.each
        return MetricView(
            name=self.name,
            old=None if old is None else old * self.shown,
            new=None if new is None else new * self.shown,
            effect=None if mean is None else math.expm1(mean),
            low=None if interval is None else math.expm1(interval[0]),
            high=None if interval is None else math.expm1(interval[1]),
            p=self.worse.evidence.p,
            verdict=word(self.effect, self.worse.evidence, self.better.evidence, alpha),
            note=note,
        )


def compare_money(margin: float) -> CostComparison:
    """Of a million tokens, in the currency."""
    return CostComparison(name="cost", margin=margin, shown=A_MILLION)


def compare_tokens(margin: float) -> CostComparison:
    """Of an answer."""
    return CostComparison(name="tokens", margin=margin)


def unpriced(money: CostComparison, tokens: CostComparison) -> str:
    """Why money is not compared; "" where it is, or where there are no tokens to pay for."""
    if tokens.old.each is None and tokens.new.each is None:
        return ""
    without = [word for word, spent in (("old", money.old), ("new", money.new)) if spent.each is None]
    if not without:
        return ""
    whose = "either release" if len(without) == 2 else f"the {without[0]} release"
    return f"no price is known of {whose}: tokens are compared"
