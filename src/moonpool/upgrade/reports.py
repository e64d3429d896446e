"""What gateways tell of two releases, gathered for one upgrade: the evidence, and who follows which rules.

`Gathered` is kept with the upgrade: with the sequence of every report that is in it, so that reports which
come again after a kill are not counted twice. `Reports` holds what is of the moment only. Pure.
"""

from collections import deque

import msgspec

from moonpool.contracts.release_stats import ReleaseCounts, ReleaseReport
from moonpool.contracts.routing import FULL
from moonpool.contracts.upgrades import HardLimits, Numbers, UpgradePlan, VerdictView
from moonpool.upgrade.analysis import SPLIT_ALPHA, Analysis, begin
from moonpool.upgrade.costs import A_MILLION
from moonpool.upgrade.gates import Judgement, Verdict
from moonpool.upgrade.strategies import Course

LIVE = 5.0
"""Seconds after which a gateway that has told nothing is taken for gone: they report every second."""
UNHEARD = 2.0
"""Seconds that gateways which do not report are given to follow new rules; they take under one."""
GATEWAYS = 256
"""Sequences that are remembered: of so many gateways that were heard last."""


class Gathered(msgspec.Struct, kw_only=True):
    """`sample` is what the new release has ended in the current stratum (state.py)."""

    analysis: Analysis
    old: ReleaseCounts
    new: ReleaseCounts
    stratum: int = 0
    sample: int = 0
    sequences: dict[str, int] = {}

    @classmethod
    def nothing(cls, course: Course, plan: UpgradePlan) -> "Gathered":
        return cls(
            analysis=begin(plan.analysis, course.unit),
            old=ReleaseCounts(service=course.service, release=course.old),
            new=ReleaseCounts(service=course.service, release=course.new),
        )


class _Window(msgspec.Struct, frozen=True):
    """One report, as it came at monotonic `at`."""

    at: float
    old: ReleaseCounts
    new: ReleaseCounts


class _Gateway(msgspec.Struct):
    heard: float
    version: int
    steady: int = 0
    """Reports since it began to follow that version."""
    old_idle: int = 0
    new_idle: int = 0
    """Reports in a row, of those, in which nothing was sent there."""


class Reports:
    """Of one upgrade. Times are the manager's monotonic clock."""

    def __init__(self, course: Course, plan: UpgradePlan, gathered: Gathered | None = None) -> None:
        self._course = course
        self._plan = plan
        self.gathered = gathered or Gathered.nothing(course, plan)
        self._windows: deque[_Window] = deque()
        self._gateways: dict[str, _Gateway] = {}

    def take(
        self, report: ReleaseReport, *, stratum: int, share: int | None, version: int, now: float
    ) -> bool:
        """Count a report; False when it was counted already. `share` is the new release's weight in the
        document of that `version`; None when something else than buckets decides."""
        found = self.gathered
        if report.sequence <= found.sequences.get(report.gateway, 0):
            return False
        found.sequences.pop(report.gateway, None)
        found.sequences[report.gateway] = report.sequence
        while len(found.sequences) > GATEWAYS:
            found.sequences.pop(next(iter(found.sequences)))
        if stratum != found.stratum:
            found.stratum, found.sample = stratum, 0
            if found.analysis.split.evidence.p <= SPLIT_ALPHA:  # a person went on in spite of it: anew
                found.analysis = begin(self._plan.analysis, self._course.unit)
        old, new = self._of(report, self._course.old), self._of(report, self._course.new)
        gateway = self._follow(report, old, new, now)
        settled = gateway.version == version and gateway.steady > 1
        settled = settled and self._course.service not in report.capped
        split = share / FULL if share is not None and settled and 0 < share < FULL else None
        if self._plan.analysis.enabled:
            found.analysis.observe(old, new, split)
        found.old.add(old)
        found.new.add(new)
        found.sample += new.ended - new.left
        self._windows.append(_Window(now, old, new))
        self._forget(now)
        return True

    def _of(self, report: ReleaseReport, release: str) -> ReleaseCounts:
        service = self._course.service
        for counts in report.counts:
            if (counts.service, counts.release) == (service, release):
                return counts
        return ReleaseCounts(service=service, release=release)

    def _follow(self, report: ReleaseReport, old: ReleaseCounts, new: ReleaseCounts, now: float) -> _Gateway:
        version = report.routing.get(self._course.service, 0)
        gateway = self._gateways.get(report.gateway)
        if gateway is None or gateway.version != version:
            gateway = self._gateways[report.gateway] = _Gateway(now, version)
        gateway.heard = now
        gateway.steady += 1
        gateway.old_idle = 0 if old.started else gateway.old_idle + 1
        gateway.new_idle = 0 if new.started else gateway.new_idle + 1
        return gateway

    def _forget(self, now: float) -> None:
        while self._windows and now - self._windows[0].at > self._plan.limits.over_seconds:
            self._windows.popleft()

    # ── who follows ──────────────────────────────────────────────────────────────────────────────

    def live(self, now: float) -> list[_Gateway]:
        return [gateway for gateway in self._gateways.values() if now - gateway.heard < LIVE]

    def applied(self, version: int, routed_for: float, now: float) -> bool:
        """Whether all gateways that tell anything follow that version."""
        live = self.live(now)
        return all(one.version >= version for one in live) if live else routed_for >= UNHEARD

    def quiet(self, version: int, now: float) -> tuple[bool | None, bool | None]:
        """Whether nothing was sent to old and to new any more: in a whole report of every gateway, since
        the one in which it began to follow. None when no gateway tells."""
        live = self.live(now)
        if not live:
            return None, None
        followed = [one for one in live if one.version >= version]
        return (
            len(followed) == len(live) and all(one.old_idle > 1 for one in followed),
            len(followed) == len(live) and all(one.new_idle > 1 for one in followed),
        )

    # ── what they tell ───────────────────────────────────────────────────────────────────────────

    def verdict(self, minimum: int) -> VerdictView:
        if not self._plan.analysis.enabled:
            return VerdictView(kind=Verdict.FINE, reason="not compared: the plan says so")
        return self.gathered.analysis.verdict(minimum)

    def breach(self, limits: HardLimits, now: float) -> str:
        """The hard limit that the new release breaks, in words."""
        self._forget(now)
        recent = ReleaseCounts(service=self._course.service, release=self._course.new)
        for window in self._windows:
            recent.add(window.new)
        ended = recent.ended - recent.left
        if limits.error_rate is not None and ended >= limits.sample:
            rate = recent.errors / ended
            if rate > limits.error_rate:
                return f"{rate:.0%} errors in {ended} requests, at most {limits.error_rate:.0%} are allowed"
        for name, most, times in (
            ("to the first token", limits.first_token_seconds, recent.first),
            ("between tokens", limits.gap_seconds, recent.gaps),
        ):
            slow = times.quantile(0.95) if most is not None and times.count >= limits.sample else None
            if slow is not None and most is not None and slow > most:
                return f"{slow:.2f} s {name} (95th percentile), at most {most:g} s are allowed"
        return ""

    def numbers(self, now: float) -> tuple[Numbers, Numbers]:
        """Of old and new, over the whole upgrade; the rate is of the moment."""
        self._forget(now)
        span = (
            max(1.0, min(self._plan.limits.over_seconds, now - self._windows[0].at)) if self._windows else 1.0
        )
        rates = [sum(w.old.ended for w in self._windows), sum(w.new.ended for w in self._windows)]
        old, new = (
            _numbers(counts, ended / span)
            for counts, ended in zip((self.gathered.old, self.gathered.new), rates, strict=True)
        )
        return old, new


def judgement(verdict: VerdictView) -> Judgement:
    return Judgement(Verdict(verdict.kind), verdict.reason)


def _numbers(counts: ReleaseCounts, per_second: float) -> Numbers:
    judged = counts.ended - counts.left
    return Numbers(
        requests=counts.ended,
        errors=counts.errors,
        per_second=round(per_second, 2),
        error_rate=counts.errors / judged if judged else None,
        seconds_p50=counts.seconds.quantile(0.5),
        seconds_p95=counts.seconds.quantile(0.95),
        first_token_p50=counts.first.quantile(0.5),
        first_token_p95=counts.first.quantile(0.95),
        gap_p50=counts.gaps.quantile(0.5),
        gap_p95=counts.gaps.quantile(0.95),
        tokens=counts.tokens,
        cost_per_million=counts.cost * A_MILLION / counts.priced_tokens if counts.priced_tokens else None,
    )
