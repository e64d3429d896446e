"""The local share: a part of each limit, told as the whole."""

import math

import pytest

from moonpool.adapters.limits.share import LocalShare
from moonpool.core.clock import ManualClock
from moonpool.ports.limits import Rate, Slot, Verdict

REQUESTS = Rate("requests:k", "requests", 60, 10)
USER = Rate("requests:u", "requests-user", 6000, 1000)
TOKENS = Rate("tokens:k", "tokens", 1000, 1000)
PLACES = Slot("concurrent:k", "concurrent", 5)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def share(clock: ManualClock) -> LocalShare:
    return LocalShare(clock)


def granted(share: LocalShare, gateways: int, rate: Rate, times: int = 100) -> int:
    verdicts = [share.take(gateways, f"r{n}", (rate,), (), (), 0) for n in range(times)]
    return sum(verdict.refused is None for verdict in verdicts)


@pytest.mark.parametrize(("gateways", "burst"), [(1, 10), (2, 5), (3, 3), (10, 1), (1000, 1)])
def test_a_part_and_at_least_one(share: LocalShare, gateways: int, burst: int) -> None:
    assert granted(share, gateways, REQUESTS) == burst


def test_it_comes_back_as_slowly_as_the_part(share: LocalShare, clock: ManualClock) -> None:
    granted(share, 2, REQUESTS)
    refused = share.take(2, "r", (REQUESTS,), (), (), 0)
    assert refused.refused is REQUESTS  # the limit itself: its name and quota are told
    assert refused.wait == pytest.approx(2.0, rel=0.01)
    clock.advance(refused.wait)
    assert share.take(2, "s", (REQUESTS,), (), (), 0).refused is None


def test_the_tightest_is_the_limit_itself(share: LocalShare) -> None:
    verdict = share.take(2, "r", (USER, REQUESTS), (), (), 0)
    assert verdict.tightest is REQUESTS
    assert verdict.remaining == 4


def test_places(share: LocalShare) -> None:
    held = [share.take(2, f"r{n}", (), (PLACES,), (), 0) for n in range(3)]
    assert [one.refused for one in held] == [None, None, PLACES]
    share.settle(held[0], 0)
    assert share.take(2, "r", (), (PLACES,), (), 0).refused is None


def test_what_fits_the_whole_takes_all_of_the_part_and_owes_the_rest(
    share: LocalShare, clock: ManualClock
) -> None:
    held = share.take(4, "r1", (), (), (TOKENS,), 700)
    assert held.refused is None
    share.use(held, 100)
    share.settle(held, 700)
    refused = share.take(4, "r2", (), (), (TOKENS,), 1)
    assert refused.refused is TOKENS
    assert refused.wait == pytest.approx(60 * 451 / 250, rel=0.01)


def test_what_the_whole_never_has(share: LocalShare) -> None:
    assert share.take(4, "r1", (), (), (TOKENS,), 1001).wait == math.inf


def test_what_it_has_not_given_out_is_passed_over(share: LocalShare) -> None:
    foreign = Verdict("x", None, 0.0, None, 0, 0.0)
    share.use(foreign, 5)
    share.settle(foreign, 5)
    assert share.leases == 0
