"""What a gateway counts of each release, and tells once a second while an upgrade runs."""

import msgspec
import pytest
import structlog

from moonpool.contracts.release_stats import (
    BOUNDS,
    BUCKETS,
    TOPIC,
    ReleaseCounts,
    ReleaseReport,
    Times,
    middle,
)
from moonpool.contracts.usage import TokenPrice, Usage
from moonpool.core.body import Outcome
from moonpool.core.clock import ManualClock
from moonpool.core.context import Attempt, Context
from moonpool.core.errors import Unavailable
from moonpool.middleware.money import Tariff
from moonpool.middleware.release_stats import ReleaseStats


class Log:
    def __init__(self) -> None:
        self.reports: list[ReleaseReport] = []
        self.away = False

    async def append(self, topic, events) -> None:
        if self.away:
            raise Unavailable("away")
        assert topic == TOPIC
        self.reports += [msgspec.json.decode(event.value, type=ReleaseReport) for event in events]


class Gateway:
    def __init__(self) -> None:
        self.clock, self.log, self.followed = ManualClock(), Log(), {"chat": 7}
        self.stats = ReleaseStats(
            "gateway-0", self.log, self.clock, structlog.get_logger(), lambda: self.followed
        )
        self.stats.counting = True
        self.tariff: Tariff | None = None

    def request(
        self,
        *attempts: tuple[str, int | None],
        outcome: Outcome = Outcome.COMPLETED,
        usage: Usage | None = None,
        **more,
    ) -> None:
        ctx = Context(self.clock)
        ctx.service = "chat"
        ctx.model, ctx.usage = "small", usage
        ctx.tariff = self.tariff
        for release, status in attempts:
            attempt = Attempt("unix:x", release, self.clock.monotonic())
            attempt.status = status
            ctx.attempts.append(attempt)
        self.stats.started("chat", attempts[-1][0])
        self.clock.advance(0.25)
        self.stats.ended(ctx, outcome, **more)

    async def told(self) -> dict[str, object]:
        await self.stats.report()
        return {counts.release: counts for counts in self.log.reports[-1].counts}


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


async def test_requests_are_told_by_release(gateway: Gateway) -> None:
    for _ in range(3):
        gateway.request(("v1", 200))
    gateway.request(("v2", 200))
    gateway.request(("v2", 503))
    gateway.request(("v2", 200), outcome=Outcome.FAILED)
    gateway.request(("v2", 200), outcome=Outcome.CANCELLED)

    told = await gateway.told()

    assert (told["v1"].started, told["v1"].ended, told["v1"].errors) == (3, 3, 0)
    assert (told["v2"].ended, told["v2"].errors, told["v2"].left) == (4, 2, 1)
    assert told["v1"].seconds.count == 3
    assert told["v1"].seconds.sum == pytest.approx(0.75)
    assert told["v1"].seconds.quantile(0.5) == pytest.approx(0.25, rel=0.1)
    report = gateway.log.reports[0]
    assert (report.gateway, report.sequence, report.routing) == ("gateway-0", 1, {"chat": 7})


async def test_a_failure_that_another_release_covers_is_still_one(gateway: Gateway) -> None:
    gateway.request(("v2", None), ("v1", 200))

    told = await gateway.told()

    assert (told["v2"].ended, told["v2"].errors) == (1, 1)
    assert (told["v1"].ended, told["v1"].errors) == (1, 0)


async def test_streams_tell_their_first_token_and_their_mean_gap(gateway: Gateway) -> None:
    now = gateway.clock.monotonic()
    gateway.request(("v1", 200), first=now + 0.05, last=now + 0.25, chunks=5)

    told = await gateway.told()

    assert told["v1"].first.sum == pytest.approx(0.05)
    assert told["v1"].gaps.sum == pytest.approx(0.05)
    assert told["v1"].gaps.count == 1


async def test_nothing_is_counted_or_told_without_an_upgrade(gateway: Gateway) -> None:
    gateway.followed = {}
    await gateway.stats.report()
    assert len(gateway.log.reports) == 1, "the last one tells what there was"
    gateway.request(("v1", 200))
    await gateway.stats.report()
    assert len(gateway.log.reports) == 1
    gateway.followed = {"chat": 8}
    await gateway.stats.report()
    assert gateway.stats.counting


async def test_a_log_that_is_away_costs_a_report_and_no_more(gateway: Gateway) -> None:
    gateway.log.away = True
    gateway.request(("v1", 200))
    await gateway.stats.report()
    gateway.log.away = False
    gateway.request(("v1", 200))
    assert (await gateway.told())["v1"].ended == 1
    assert gateway.log.reports[-1].sequence == 2


def test_buckets_hold_what_is_near_their_middle() -> None:
    assert len(BOUNDS) == BUCKETS - 1
    for index in range(1, BUCKETS - 1):
        assert BOUNDS[index - 1] < middle(index) < BOUNDS[index]
        assert middle(index) / BOUNDS[index - 1] < 1.1
    assert BOUNDS[-1] > 300


def test_times_add_up() -> None:
    one, two = Times(count=2, sum=1.0, cells={3: 2}), Times(count=1, sum=9.0, cells={3: 1, 9: 0})
    one.add(two)
    assert (one.count, one.sum, one.cells) == (3, 10.0, {3: 3, 9: 0})
    assert Times().quantile(0.5) is None


USAGE = Usage(prompt_tokens=100, cached_tokens=60, completion_tokens=10)


async def test_what_an_answer_costs_is_told_with_its_cached_tokens_at_their_price(gateway: Gateway) -> None:
    gateway.tariff = Tariff({"small": TokenPrice(270_000, 70_000, 1_100_000)}, "gateway-0")
    gateway.request(("v1", 200), usage=USAGE)
    gateway.request(("v1", 200), usage=USAGE)
    gateway.request(("v1", 500), usage=USAGE)
    gateway.request(("v1", 200))  # nobody counted its tokens

    told = (await gateway.told())["v1"]

    each = 40 * 270 + 60 * 70 + 10 * 1_100
    assert (told.tokens, told.priced, told.priced_tokens, told.cost) == (220, 2, 220, 2 * each)


async def test_without_a_price_tokens_are_told_and_no_cost(gateway: Gateway) -> None:
    gateway.request(("v1", 200), usage=USAGE)
    gateway.tariff = Tariff({"large": TokenPrice(1, 1, 1)}, "gateway-0")
    gateway.request(("v1", 200), usage=USAGE)

    told = (await gateway.told())["v1"]

    assert (told.tokens, told.priced, told.priced_tokens, told.cost) == (220, 0, 0, 0)


async def test_a_release_may_have_a_price_of_its_own(gateway: Gateway) -> None:
    own = {"v2": TokenPrice(2_000_000, 2_000_000, 2_000_000)}
    gateway.stats.price = lambda ctx, answered: own.get(answered.release)
    gateway.request(("v1", 200), usage=USAGE)
    gateway.request(("v2", 200), usage=USAGE)

    told = await gateway.told()

    assert (told["v1"].priced, told["v2"].priced, told["v2"].cost) == (0, 1, 110 * 2_000)


def test_counts_of_several_reports_add_up() -> None:
    every = {"started": 1, "ended": 2, "errors": 3, "left": 4, "mirrored": 5, "tokens": 6}
    money = {"priced": 7, "priced_tokens": 8, "cost": 9}
    one = ReleaseCounts(service="chat", release="v1", **every, **money)
    one.add(ReleaseCounts(service="chat", release="v1", **every, **money))

    numbers = {name: getattr(one, name) for name in ReleaseCounts.__struct_fields__}
    assert {n: v for n, v in numbers.items() if isinstance(v, int)} == {
        name: 2 * value for name, value in {**every, **money}.items()
    }
