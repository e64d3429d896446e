"""What an experiment says: promote, keep, either, wait, or discard. Pure.

"Nothing is worse" is not yet "there is no difference": that is said only when every interval lies within
what matters. Intervals hold at all times together, so that an experiment may be read, and ended, on any day.
"""

import math
from collections.abc import Iterable
from enum import StrEnum

import msgspec

from moonpool.contracts.upgrades import AnalysisPlan, MetricView, VerdictView
from moonpool.upgrade.analysis import tell

FORESEEABLE = 1_000_000
"""Requests beyond which it is not said how many are missing: the estimate is none any more, and the
difference, if there is one, is not to be measured here."""
RATES = frozenset({"errors", "departures"})
POINTS = 0.005
"""Half a point of a rate matters, where the plan names no margin."""


class Recommendation(StrEnum):
    PROMOTE = "promote"
    KEEP = "keep"
    EITHER = "either"
    """They are alike in everything that matters."""
    WAIT = "wait"
    DISCARD = "discard"
    """Nothing can be learned from these numbers."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """`more` is about how many requests are missing until every interval is as narrow as what matters;
    None: not to be said (more than a million, for one), or nothing is missing. `telling` are the measures
    that decided."""

    recommendation: Recommendation
    reason: str
    telling: tuple[str, ...] = ()
    exposed: int = 0
    more: int | None = None


def conclude(
    verdict: VerdictView, *, old: str, new: str, exposed: int, plan: AnalysisPlan | None = None
) -> Result:
    """`old` and `new` are labels, `exposed` the requests of both so far."""
    plan = plan or AnalysisPlan()
    said = {word: _named(verdict.metrics, word) for word in ("worse", "better")}
    if verdict.kind == "invalid":
        reason = f"Nothing can be learned from this: {verdict.reason}. Find the cause, abort, and begin anew."
        return Result(recommendation=Recommendation.DISCARD, reason=reason, exposed=exposed)
    if verdict.kind == "no_data":
        return Result(recommendation=Recommendation.WAIT, reason="There are no numbers yet.", exposed=exposed)
    if said["worse"]:
        # Worse in one measure and better in another is a person's to weigh; keeping is safe meanwhile.
        but = f" It is better in {_list(said['better'])}: that is yours to weigh." if said["better"] else ""
        reason = f"Keep {old}: {new} is worse ({_told(verdict.metrics, 'worse')}).{but}"
        telling = (*said["worse"], *said["better"])
        return Result(recommendation=Recommendation.KEEP, reason=reason, telling=telling, exposed=exposed)
    more = _missing(verdict.metrics, plan, exposed)
    if verdict.kind == "better":
        reason = f"Promote {new}: {_told(verdict.metrics, 'better')}, and nothing is worse."
        return Result(
            recommendation=Recommendation.PROMOTE, reason=reason, telling=said["better"], exposed=exposed
        )
    if verdict.kind == "fine" and more == 0:
        reason = f"{old} and {new} are alike in all that matters: promote {new} if it has other merits."
        return Result(recommendation=Recommendation.EITHER, reason=reason, exposed=exposed)
    count = f" About {more} more requests would tell." if more else ""
    if more is not None and more > FORESEEABLE:
        more, count = None, " More than a million more would: no measurable difference at this traffic."
    doubt = verdict.reason if verdict.kind == "undecided" else "a difference that matters is not ruled out"
    return Result(
        recommendation=Recommendation.WAIT,
        reason=f"Wait: {doubt}.{count}",
        exposed=exposed,
        more=more or None,
    )


def matters(name: str, plan: AnalysisPlan) -> float:
    """The difference from which on a measure counts: points of a rate, else a part of the old value."""
    if name in RATES:
        return max(plan.error_margin, POINTS)
    margins = {"first token": plan.first_token_margin, "token gap": plan.gap_margin}
    return max(margins.get(name, plan.cost_margin), 0.01)


def _missing(metrics: Iterable[MetricView], plan: AnalysisPlan, exposed: int) -> int | None:
    """0 when every measure that was taken is known well enough; None when it cannot be said."""
    most = 0.0
    for metric in metrics:
        if metric.effect is None:
            continue
        if metric.low is None or metric.high is None:
            return None
        bound = matters(metric.name, plan)
        if -bound <= metric.low and metric.high <= bound:
            continue
        # An interval closes with the root of the number of requests; the effect may lie anywhere in it.
        width, room = (metric.high - metric.low) / 2.0, bound - min(abs(metric.effect), bound / 2.0)
        most = max(most, exposed * ((width / room) ** 2 - 1.0), 1.0)
    return _rounded(most)


def _rounded(number: float) -> int:
    """To two digits: it is an estimate."""
    if number < 100:
        return math.ceil(number)
    unit = int(10 ** (math.floor(math.log10(number)) - 1))
    return math.ceil(number / unit) * unit


def _named(metrics: Iterable[MetricView], word: str) -> tuple[str, ...]:
    return tuple(metric.name for metric in metrics if metric.verdict == word)


def _told(metrics: Iterable[MetricView], word: str) -> str:
    return "; ".join(tell(metric) for metric in metrics if metric.verdict == word)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
