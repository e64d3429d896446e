"""The promises that need a clock: rates over time, leases, memory, and whatever can happen in any order."""

import math
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from moonpool.adapters.limits.memory import LEASE_SECONDS, MemoryLimits
from moonpool.core.clock import ManualClock
from moonpool.ports.limits import WINDOW, Rate, Slot, Verdict


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def limits(clock: ManualClock) -> MemoryLimits:
    return MemoryLimits(clock)


@pytest.mark.parametrize(("quota", "burst"), [(60, 1), (60, 10), (7, 7), (1, 1), (100_000, 3)])
def test_after_a_burst_one_each_interval(
    limits: MemoryLimits, clock: ManualClock, quota: int, burst: int
) -> None:
    rate = Rate("r", "requests", quota, burst)
    for _ in range(burst):
        assert limits.take("l", (rate,), ()).refused is None
    for _ in range(20):
        refused = limits.take("l", (rate,), ())
        assert refused.refused is rate
        assert refused.wait == pytest.approx(WINDOW / quota, rel=0.01)
        clock.advance(refused.wait * 0.98)
        assert limits.take("l", (rate,), ()).refused is rate
        clock.advance(refused.wait * 0.02)
        assert limits.take("l", (rate,), ()).refused is None


@pytest.mark.parametrize("uptime", [0.0, 1e5, 1e8])
@pytest.mark.parametrize("quota", [1, 600, 10_000_000])
def test_a_machine_that_runs_for_years_counts_as_well(uptime: float, quota: int) -> None:
    clock = ManualClock(monotonic=uptime)
    limits = MemoryLimits(clock)
    rate = Rate("r", "requests", quota, min(quota, 1000))
    admitted = sum(limits.take("l", (rate,), ()).refused is None for _ in range(rate.burst + 10))
    assert admitted == pytest.approx(rate.burst, abs=1 + rate.burst * 0.02)


def test_reset_is_when_it_is_full_again(limits: MemoryLimits) -> None:
    rate = Rate("r", "requests", 60, 60)
    assert limits.take("l", (rate,), ()).reset == pytest.approx(1.0)
    assert limits.take("l", (rate,), ()).reset == pytest.approx(2.0)


def test_the_wait_for_tokens_is_told(limits: MemoryLimits, clock: ManualClock) -> None:
    tokens = Rate("t", "tokens", 60, 60)
    limits.settle(limits.take("a", (), (), (tokens,), 60), 60)
    refused = limits.take("b", (), (), (tokens,), 30)
    assert refused.wait == pytest.approx(30.0, abs=0.01)
    clock.advance(refused.wait)
    assert limits.take("b", (), (), (tokens,), 30).refused is None


def test_giving_back_late_does_not_let_more_through(limits: MemoryLimits, clock: ManualClock) -> None:
    """A reservation that decayed like a charge and was refunded later would be given twice."""
    tokens = Rate("t", "tokens", 60, 60)
    idle = limits.take("idle", (), (), (tokens,), 30)
    clock.advance(600)
    limits.settle(limits.take("a", (), (), (tokens,), 30), 30)
    limits.settle(idle, 0)
    assert limits.take("b", (), (), (tokens,), 31).refused is tokens
    assert limits.take("b", (), (), (tokens,), 30).refused is None


def test_what_nobody_settles_is_given_back_after_a_while(limits: MemoryLimits, clock: ManualClock) -> None:
    place, tokens = Slot("c", "concurrent", 1), Rate("t", "tokens", 60, 60)
    lost = limits.take("lost", (), (place,), (tokens,), 60)
    clock.advance(LEASE_SECONDS - 1)
    limits.use(lost, 10)
    assert limits.take("a", (), (place,)).refused is place
    clock.advance(WINDOW + 2)
    found = limits.take("b", (), (place,), (tokens,), 60)
    assert found.refused is None
    limits.settle(lost, 60)  # far too late
    assert limits.leases == 1
    assert limits.places("c") == 1
    assert limits.reserved("t") == 60


def test_buckets_that_are_full_again_are_forgotten(limits: MemoryLimits, clock: ManualClock) -> None:
    for n in range(5000):
        limits.settle(limits.take("l", (Rate(f"r{n}", "requests", 60, 60),), (Slot(f"c{n}", "c", 1),)), 0)
    assert limits.buckets == 5000
    clock.advance(WINDOW + 1)
    limits.take("l", (), ())
    assert limits.buckets == 0
    assert limits.places("c7") == 0


def test_tidying_takes_nothing_from_what_is_under_way(limits: MemoryLimits, clock: ManualClock) -> None:
    tokens = Rate("t", "tokens", 60, 60)
    held = limits.take("a", (), (), (tokens,), 10)
    limits.use(held, 10)
    clock.advance(WINDOW * 2)
    limits.take("b", (), ())
    limits.settle(held, 25)
    assert limits.take("c", (), (), (tokens,), 45).remaining == 0
    assert limits.reserved("t") == 45


QUOTA, BURST, TOKENS, PLACES = 30, 5, 120, 3


class AnyOrder(RuleBasedStateMachine):
    """Requests with reservations that come, make progress, end or are forgotten, at any times."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.limits = MemoryLimits(self.clock)
        self.requests = Rate("requests", "requests", QUOTA, BURST)
        self.tokens = Rate("tokens", "tokens", TOKENS, TOKENS)
        self.slot = Slot("places", "concurrent", PLACES)
        self.admitted: deque[float] = deque()
        self.charged: deque[tuple[float, int]] = deque()
        self.open: dict[str, tuple[Verdict, int, int]] = {}
        self.count = 0

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.5, 1.999, 2.0, 7.0, 59.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(target=held, amount=st.integers(1, TOKENS + 10))
    def take(self, amount: int) -> str:
        self.count += 1
        lease = f"lease{self.count}"
        places, reserved = len(self.open), self.reserved
        verdict = self.limits.take(lease, (self.requests,), (self.slot,), (self.tokens,), amount)
        if verdict.refused is None:
            assert places < PLACES
            assert reserved + amount <= TOKENS
            self.admitted.append(self.clock.monotonic())
            self.open[lease] = (verdict, amount, 0)
        else:
            assert verdict.wait > 0
            assert math.isinf(verdict.wait) == (amount > TOKENS and verdict.refused is self.tokens)
        return lease

    @rule(lease=held, share=st.floats(0, 1))
    def progress(self, lease: str, share: float) -> None:
        if lease in self.open:
            verdict, amount, used = self.open[lease]
            now_used = max(used, int(amount * share))
            self.limits.use(verdict, now_used)
            self.charged.append((self.clock.monotonic(), now_used - used))
            self.open[lease] = (verdict, amount, now_used)

    @rule(lease=consumes(held), share=st.floats(0, 1), twice=st.booleans())
    def end(self, lease: str, share: float, twice: bool) -> None:
        if lease not in self.open:
            return
        verdict, amount, used = self.open.pop(lease)
        total = max(used, int(amount * share))
        self.limits.settle(verdict, total)
        self.charged.append((self.clock.monotonic(), total - used))
        if twice:
            self.limits.settle(verdict, total)

    @property
    def reserved(self) -> int:
        return sum(amount - used for _, amount, used in self.open.values())

    @invariant()
    def what_is_held_is_what_is_under_way(self) -> None:
        assert self.limits.leases == len(self.open)
        assert self.limits.places("places") == len(self.open)
        assert self.limits.reserved("tokens") == self.reserved

    @invariant()
    def no_window_has_more_than_it_may(self) -> None:
        """Windows that end now, of every length: requests admitted, and tokens really used."""
        now = self.clock.monotonic()
        for number, at in enumerate(self.admitted):
            window = now - at
            assert len(self.admitted) - number <= BURST + window / WINDOW * QUOTA + 0.01
        used = 0
        for at, units in reversed(self.charged):
            used += units
            assert used <= TOKENS + (now - at) / WINDOW * TOKENS + 0.01

    def teardown(self) -> None:
        for verdict, _, used in self.open.values():
            self.limits.settle(verdict, used)
        assert (self.limits.leases, self.limits.places("places"), self.limits.reserved("tokens")) == (0, 0, 0)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
