"""New against old, on evidence: what may the upgrade do next? Pure.

Fed with what gateways counted of both releases in the same seconds (contracts/release_stats.py), it tests
six measures with the always-valid tests of sequential.py, so that it may be asked after every report:

    errors        failed answers: 5xx, and streams that broke or ended too soon            0.50 of alpha
    first token   how often a release is beyond the old one's own quartiles and tails      0.20
    token gap     the same; a stream counts once, with its mean                            0.10
    departures    clients that left before their answer was there                          0.10
    cost          money for a token, where prices are known, by blocks of answers          0.05
    tokens        tokens for an answer, by blocks of answers                               0.05

All together raise a false alarm with probability alpha at most over a whole upgrade. Each has its mirror
image (is the old one worse?), which is how `better` is found. The split is tested where a request is what is
assigned: when it is not as it should be, requests are missing, and nothing measured can be trusted.
"""

import msgspec

from moonpool.contracts.release_stats import ReleaseCounts
from moonpool.contracts.routing import Unit
from moonpool.contracts.upgrades import AnalysisPlan, MetricView, VerdictView
from moonpool.upgrade.costs import (
    CostComparison,
    compare_money,
    compare_tokens,
    money_of,
    tokens_of,
    unpriced,
)
from moonpool.upgrade.rates import Backlog, RateComparison
from moonpool.upgrade.sequential import RateTest, SplitTest
from moonpool.upgrade.times import TimesComparison

SHARES = {
    "errors": 0.5,
    "first token": 0.2,
    "token gap": 0.1,
    "departures": 0.1,
    "cost": 0.05,
    "tokens": 0.05,
}
"""Of alpha: a union bound, most for what hurts most."""
SPLIT_ALPHA = 0.001
"""A split is called broken on stronger evidence: it invalidates everything else (as Lindon & Malek do)."""
SUSPICIOUS = 4.0
"""A measure whose e-value has come to a part of so many of what it takes is worth waiting for more. E-values
fall again where there is nothing to find."""


class Analysis(msgspec.Struct, kw_only=True):
    """One comparison, from its first window to its verdict. A struct of numbers: stored with the upgrade
    it survives the manager. Made by `begin`."""

    plan: AnalysisPlan
    unit: Unit
    errors: RateComparison
    departures: RateComparison
    first: TimesComparison
    gaps: TimesComparison
    money: CostComparison
    tokens: CostComparison
    split: SplitTest = msgspec.field(default_factory=SplitTest)
    backlog: Backlog = msgspec.field(default_factory=Backlog)

    def observe(self, old: ReleaseCounts, new: ReleaseCounts, share: float | None = None) -> None:
        """What one gateway (or all together) counted of both in the same seconds. `share` is the new
        release's part of the requests that buckets decide, as the router had it all that time; None when it
        changed meanwhile, nobody knows, or rules other than buckets decide a part of the requests."""
        begun = self.backlog.begun(new)
        mature = self.backlog.mature
        stayed = (max(old.ended - old.left, 0), max(new.ended - new.left, 0))
        errors = (min(old.errors, stayed[0]), min(new.errors, stayed[1]))
        self.errors.observe((stayed[0], errors[0]), (stayed[1], errors[1]), max(begun - new.left, 0), mature)
        self.departures.observe((old.ended, old.left), (new.ended, new.left), begun, mature)
        self.first.observe(old.first, new.first, mature)
        self.gaps.observe(old.gaps, new.gaps, mature)
        self.money.observe(money_of(old), money_of(new))
        self.tokens.observe(tokens_of(old), tokens_of(new))
        if share is not None and self.unit is Unit.REQUEST:
            self.split.observe(old.started, new.started, share)

    def verdict(self, minimum: int) -> VerdictView:
        """`minimum` is how many answers of the new release (and of the old one) there must be before the
        absence of evidence counts for anything. A harm that shows earlier is told at once."""
        alpha = self.plan.alpha
        metrics = (
            self.errors.view(alpha * SHARES["errors"]),
            self.first.view(alpha * SHARES["first token"]),
            self.gaps.view(alpha * SHARES["token gap"]),
            self.departures.view(alpha * SHARES["departures"]),
            self.money.view(alpha * SHARES["cost"], unpriced(self.money, self.tokens)),
            self.tokens.view(alpha * SHARES["tokens"]),
        )
        kind, reason = self._decide(metrics, minimum)
        return VerdictView(kind=kind, reason=reason, metrics=metrics)

    def _decide(self, metrics: tuple[MetricView, ...], minimum: int) -> tuple[str, str]:
        if self.split.evidence.p <= SPLIT_ALPHA:
            split = self.split
            total = split.old + split.new
            return "invalid", (
                f"{split.new} of {total} requests went to the new release where about "
                f"{split.expected:.0f} should have: requests are missing or were not shared out by weight"
            )
        worse = [metric for metric in metrics if metric.verdict == "worse"]
        if worse:
            return "worse", "; ".join(tell(metric) for metric in worse)
        old, new = self.errors.old, self.errors.new
        if not new or not old:
            return "no_data", f"the {'old' if new else 'new'} release has not answered anything yet"
        if min(new, old) < minimum:
            return "undecided", (
                f"{new} answers of the new release and {old} of the old one, {minimum} of each are wanted"
            )
        doubtful = [metric for metric in metrics if self._doubtful(metric.name)]
        if doubtful:
            return "undecided", "; ".join(f"{tell(metric)}, p = {metric.p:.2g}" for metric in doubtful)
        better = [metric for metric in metrics if metric.verdict == "better"]
        if better:
            return "better", "; ".join(tell(metric) for metric in better)
        return "fine", f"nothing is worse in {new} answers"

    def _doubtful(self, name: str) -> bool:
        evidence = {
            "errors": self.errors.worse.evidence,
            "first token": self.first.worse.evidence,
            "token gap": self.gaps.worse.evidence,
            "departures": self.departures.worse.evidence,
            "cost": self.money.worse.evidence,
            "tokens": self.tokens.worse.evidence,
        }
        return evidence[name].now * SUSPICIOUS * self.plan.alpha * SHARES[name] >= 1.0


def begin(plan: AnalysisPlan, unit: Unit) -> Analysis:
    """A comparison that has seen nothing yet."""
    return Analysis(
        plan=plan,
        unit=unit,
        errors=RateComparison(name="errors", worse=RateTest(margin=plan.error_margin)),
        departures=RateComparison(name="departures", worse=RateTest(margin=plan.error_margin)),
        first=TimesComparison.begin("first token", plan.first_token_margin),
        gaps=TimesComparison.begin("token gap", plan.gap_margin),
        money=compare_money(plan.cost_margin),
        tokens=compare_tokens(plan.cost_margin),
    )


def tell(metric: MetricView) -> str:
    """One measure, for people: `errors 2.50% instead of 0.50%`."""
    if metric.old is None or metric.new is None:
        return metric.name
    if metric.name in ("errors", "departures"):
        return f"{metric.name} {metric.new:.2%} instead of {metric.old:.2%}"
    if metric.name == "cost":
        return f"{metric.new:.4g} for a million tokens instead of {metric.old:.4g}"
    if metric.name == "tokens":
        return f"{metric.new:.0f} tokens for an answer instead of {metric.old:.0f}"
    return f"{metric.name} {metric.new * 1000:.0f} ms instead of {metric.old * 1000:.0f} ms"
