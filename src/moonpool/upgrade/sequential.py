"""Tests that may be looked at after every window without losing their level. Pure, O(1) memory.

Each test keeps e-values: a quantity that is at most 1 on average when nothing is wrong, at every stopping
time (Ville 1939; Ramdas, Grünwald, Vovk & Shafer, "Game-theoretic statistics and safe anytime-valid
inference", 2023). By Ville's inequality it ever reaches 1/alpha with probability alpha at most, however often
one looks: the "always valid p-value" of Johari, Koomen, Pekelis & Walsh ("Peeking at A/B tests", 2017) is
one over its peak.

Windows are compared with themselves only, old against new in the same seconds: weights may change and the
traffic's nature may drift without harm.

Everything here is a struct of numbers: it can be stored with the upgrade, and read again.
"""

import math
from collections.abc import Sequence

import msgspec

ODDS = (1.3, 2.0, 3.5, 6.0, 12.0, 40.0)
"""Odds of new against old that a harm is looked for at. A mixture over them costs at most ln 6 in the
exponent against knowing the right one beforehand."""
LEAST = -600.0
"""The least logarithm kept: e-values that small never matter again, and exp does not underflow."""
_CLOSE = 1e-12


def mixed(logs: Sequence[float]) -> float:
    """The logarithm of the mean of e-values, which is an e-value: ln(mean(exp(logs)))."""
    most = max(logs)
    return most + math.log(math.fsum(math.exp(log - most) for log in logs) / len(logs))


class Evidence(msgspec.Struct, kw_only=True):
    """`log` is the logarithm of the e-value now, `peak` of the largest it has ever been."""

    log: float = 0.0
    peak: float = 0.0

    def becomes(self, log: float) -> None:
        self.log = log
        self.peak = max(self.peak, log)

    @property
    def p(self) -> float:
        """The always-valid p-value: 1 without any evidence."""
        return min(1.0, math.exp(-self.peak))

    @property
    def now(self) -> float:
        """The e-value as it stands, which may have fallen again."""
        return math.exp(min(self.log, 700.0))


class RateTest(msgspec.Struct, kw_only=True):
    """Whether something happens more often with new than with old, by more than `margin` (points of rate).

    The block e-value of Turner, Ly & Grünwald ("Generic E-variables for exact sequential k-sample tests that
    allow for optional stopping", 2021; with a margin: Turner & Grünwald, "Exact anytime-valid confidence
    intervals for contingency tables", 2023): the likelihood of a window under an alternative, over that under
    the nearest point of the hypothesis {new ≤ old + margin}. Exact at any rate and any split of the traffic.
    """

    margin: float = 0.0
    logs: list[float] = msgspec.field(default_factory=lambda: [0.0] * len(ODDS))
    evidence: Evidence = msgspec.field(default_factory=Evidence)

    def observe(self, old: int, old_hits: int, new: int, new_hits: int, base: float) -> None:
        """One window. `base` is the old one's rate as known *before* this window; a wrong one costs power,
        never validity."""
        if not old or not new:
            return
        base = min(max(base, 1e-6), 1.0 - 1e-6)
        for place, odds in enumerate(ODDS):
            worse = odds * base / (1.0 - base + odds * base)
            if worse <= base + self.margin + _CLOSE:
                continue
            near_old, near_new = _nearest(old, base, new, worse, self.margin)
            log = _log_ratio(old, old_hits, base, near_old) + _log_ratio(new, new_hits, worse, near_new)
            self.logs[place] = max(self.logs[place] + log, LEAST)
        self.evidence.becomes(mixed(self.logs))


def _nearest(old: int, base: float, new: int, worse: float, margin: float) -> tuple[float, float]:
    """The rates of {new ≤ old + margin} under which the alternative looks most likely: the least
    n₀·KL(base‖φ) + n₁·KL(worse‖φ + margin), whose derivative rises with φ."""
    if margin == 0.0:
        pooled = (old * base + new * worse) / (old + new)
        return pooled, pooled
    low, high = base, min(worse - margin, 1.0 - margin - _CLOSE)
    for _ in range(30):
        near = (low + high) / 2.0
        slope = old * (near - base) / (near * (1.0 - near))
        shifted = near + margin
        slope += new * (shifted - worse) / (shifted * (1.0 - shifted))
        if slope > 0.0:
            high = near
        else:
            low = near
    return low, low + margin


def _log_ratio(count: int, hits: int, rate: float, other: float) -> float:
    """ln of how much likelier `hits` of `count` are at `rate` than at `other`."""
    return hits * math.log(rate / other) + (count - hits) * math.log((1.0 - rate) / (1.0 - other))


TILTS = (1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 4.0, 10.0)


class SplitTest(msgspec.Struct, kw_only=True):
    """Whether requests are shared out as the weights say (sample ratio).

    The sequential multinomial test of Lindon & Malek ("Anytime-valid inference for multinomial count data",
    2020) with a mixture of tilted odds in the place of their Dirichlet prior, so that weights may change.
    """

    logs: list[float] = msgspec.field(default_factory=lambda: [0.0] * (2 * len(TILTS)))
    evidence: Evidence = msgspec.field(default_factory=Evidence)
    old: int = 0
    new: int = 0
    expected: float = 0.0
    """How many of all should have been new."""

    def observe(self, old: int, new: int, share: float) -> None:
        """`share` is the new one's part in this window, between 0 and 1 (both excluded: nothing to test)."""
        if not 0.0 < share < 1.0 or not old + new:
            return
        self.old += old
        self.new += new
        self.expected += share * (old + new)
        for place, tilt in enumerate((*TILTS, *(1.0 / tilt for tilt in TILTS))):
            log = new * math.log(tilt) - (old + new) * math.log(1.0 - share + share * tilt)
            self.logs[place] = max(self.logs[place] + log, LEAST)
        self.evidence.becomes(mixed(self.logs))


CHANCES = (0.6, 0.7, 0.8, 0.9, 0.99)


class SignTest(msgspec.Struct, kw_only=True):
    """Whether new is above old in more than half of the comparisons: for measures of which only totals are
    known. A bet against a coin (Shafer, "Testing by betting", 2021)."""

    logs: list[float] = msgspec.field(default_factory=lambda: [0.0] * len(CHANCES))
    evidence: Evidence = msgspec.field(default_factory=Evidence)

    def observe(self, above: bool) -> None:
        for place, chance in enumerate(CHANCES):
            self.logs[place] = max(
                self.logs[place] + math.log(2.0 * (chance if above else 1.0 - chance)), LEAST
            )
        self.evidence.becomes(mixed(self.logs))


class Effect(msgspec.Struct, kw_only=True):
    """The mean difference new minus old, windows weighed as Mantel & Haenszel (1959) do, with an interval
    that holds at all times together.

    The interval is asymptotic: the normal mixture of Robbins (1970), as Howard, Ramdas, McAuliffe & Sekhon
    ("Time-uniform, nonparametric, nonasymptotic confidence sequences", 2021) have it, with the variance
    estimated (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory", 2021). It
    tells how large an effect is; whether there is one the tests above decide. `scale` is the size of
    effect at which the interval is narrowest.
    """

    scale: float
    weight: float = 0.0
    sum: float = 0.0
    old_part: float = 0.0
    new_part: float = 0.0
    """Sums by which either side's variance enters that of the difference."""

    def observe(self, old: int, old_mean: float, new: int, new_mean: float) -> None:
        if not old or not new:
            return
        weight = old * new / (old + new)
        self.weight += weight
        self.sum += weight * (new_mean - old_mean)
        self.old_part += weight * weight / old
        self.new_part += weight * weight / new

    @property
    def mean(self) -> float | None:
        return self.sum / self.weight if self.weight else None

    def interval(self, old_variance: float, new_variance: float, alpha: float) -> tuple[float, float] | None:
        """None as long as there is nothing to tell."""
        mean = self.mean
        if mean is None:
            return None
        variance = (old_variance * self.old_part + new_variance * self.new_part) / self.weight**2
        if variance <= 0.0:
            return None
        ratio = self.scale**2 / variance
        radius = math.sqrt(variance * (1.0 + 1.0 / ratio) * (math.log1p(ratio) - 2.0 * math.log(alpha)))
        return mean - radius, mean + radius


def word(effect: Effect, worse: Evidence, better: Evidence, alpha: float) -> str:
    """What a measure's tests say: worse, better, same; "" as long as there is nothing to compare."""
    if worse.p <= alpha:
        return "worse"
    if better.p <= alpha:
        return "better"
    return "" if effect.mean is None else "same"
