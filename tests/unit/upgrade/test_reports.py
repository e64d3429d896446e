"""What gateways tell: counted once, who follows which rules, and what breaks a hard limit."""

import msgspec

from moonpool.contracts.release_stats import ReleaseCounts, ReleaseReport, Times
from moonpool.contracts.upgrades import HardLimits, UpgradePlan
from moonpool.upgrade.reports import Gathered, Reports
from moonpool.upgrade.strategies import compile_course

PLAN = UpgradePlan(limits=HardLimits(error_rate=0.2, gap_seconds=0.5, sample=10, over_seconds=10))
COURSE = compile_course("chat", "v1", "v2", 1, PLAN)


def report(
    sequence: int,
    *,
    old: int = 0,
    new: int = 0,
    errors: int = 0,
    version: int = 3,
    gateway: str = "g0",
    **more,
) -> ReleaseReport:
    counts = [
        ReleaseCounts(service="chat", release="v1", started=old, ended=old),
        ReleaseCounts(service="chat", release="v2", started=new, ended=new, errors=errors, **more),
        ReleaseCounts(service="user", release="v2", started=9, ended=9),
    ]
    return ReleaseReport(
        gateway=gateway, sequence=sequence, at=0.0, seconds=1.0, counts=counts, routing={"chat": version}
    )


def take(reports: Reports, *found: ReleaseReport, now: float = 100.0, stratum: int = 1) -> list[bool]:
    return [reports.take(one, stratum=stratum, share=None, version=3, now=now) for one in found]


def test_a_report_counts_once_also_after_a_restart() -> None:
    reports = Reports(COURSE, PLAN)
    assert take(reports, report(1, new=5), report(2, new=5), report(2, new=5)) == [True, True, False]
    kept = msgspec.json.decode(msgspec.json.encode(reports.gathered), type=Gathered)
    again = Reports(COURSE, PLAN, kept)
    assert take(again, report(2, new=5), report(3, new=1), report(1, new=1, gateway="g1")) == [
        False,
        True,
        True,
    ]
    assert again.numbers(100.0)[1].requests == 12


def test_the_sample_begins_anew_with_every_stop() -> None:
    reports = Reports(COURSE, PLAN)
    take(reports, report(1, new=5))
    take(reports, report(2, new=7), stratum=2)
    assert reports.gathered.sample == 7


def test_all_gateways_that_live_must_follow() -> None:
    reports = Reports(COURSE, PLAN)
    assert not reports.applied(3, 1.0, 100.0)
    assert reports.applied(3, 2.0, 100.0), "nobody tells: they were given their time"
    take(reports, report(1), report(1, gateway="g1", version=2))
    assert not reports.applied(3, 60.0, 100.0)
    assert reports.quiet(3, 100.0) == (False, False)
    take(reports, report(2, gateway="g1"))
    assert reports.applied(3, 0.0, 100.0)
    assert reports.applied(3, 60.0, 200.0), "both are gone"
    assert reports.quiet(3, 200.0) == (None, None)


def test_quiet_is_a_whole_report_without_a_request() -> None:
    reports = Reports(COURSE, PLAN)
    take(reports, report(1, old=3, new=3))
    take(reports, report(2, new=3))
    assert reports.quiet(3, 100.0) == (False, False)
    take(reports, report(3, new=3))
    assert reports.quiet(3, 100.0) == (True, False)
    take(reports, report(4, old=1))
    assert reports.quiet(3, 100.0) == (False, False)


def test_hard_limits_are_of_the_last_seconds() -> None:
    reports = Reports(COURSE, PLAN)
    take(reports, report(1, new=9, errors=9))
    assert reports.breach(PLAN.limits, 100.0) == "", "fewer than the sample"
    take(reports, report(2, new=11, errors=0))
    assert "45% errors in 20 requests" in reports.breach(PLAN.limits, 100.0)
    assert reports.breach(PLAN.limits, 200.0) == ""


def test_slow_tokens_break_a_hard_limit() -> None:
    reports = Reports(COURSE, PLAN)
    slow = Times(count=20, sum=20.0, cells={44: 20})
    take(reports, report(1, new=20, gaps=slow))
    assert "between tokens" in reports.breach(PLAN.limits, 100.0)


def test_who_left_is_no_sample() -> None:
    reports = Reports(COURSE, PLAN)
    take(reports, report(1, new=20, left=15))
    assert reports.gathered.sample == 5


def test_a_split_is_judged_only_where_buckets_decide_it() -> None:
    def split(**fields: object) -> int:
        reports = Reports(COURSE, PLAN)
        for sequence in range(1, 4):
            one = msgspec.structs.replace(report(sequence, old=9, new=1), **fields)
            reports.take(one, stratum=1, share=5000, version=3, now=100.0)
        return reports.gathered.analysis.split.new

    assert split() == 2, "the first report may have begun under other rules"
    assert split(capped=["chat"]) == 0
    assert split(routing={"chat": 2}) == 0
