"""Leases under any order of events: what is charged is always what is held."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.lease import Lease
from moonpool.core.clock import ManualClock
from moonpool.http.address import Address


def endpoint(name: str = "a") -> Endpoint:
    return Endpoint(Address.parse(f"unix:/run/{name}.sock"), instance=name, release="v1")


def test_charges_and_gives_back() -> None:
    clock, one = ManualClock(), endpoint()
    lease = Lease(one, clock, prompt=100, tokens=50)
    assert (one.active, one.queued_tokens, one.tokens) == (1, 100, 50)
    lease.answered()
    lease.produced(20)
    assert (one.active, one.queued_tokens, one.tokens) == (1, 0, 30)
    clock.advance(2.0)
    lease.release()
    assert (one.active, one.queued_tokens, one.tokens, one.served) == (0, 0, 0, 1)
    assert one.latency(clock.monotonic()) == 2.0


def test_the_prefill_rate_is_measured_and_smoothed() -> None:
    clock, one = ManualClock(), endpoint()
    for seconds, expected in ((1.0, 100.0), (0.5, 100.0 * 0.8 + 200.0 * 0.2)):
        lease = Lease(one, clock, prompt=100)
        clock.advance(seconds)
        lease.answered()
        lease.release()
        assert one.prefill_rate == expected


def test_an_answer_in_no_time_divides_by_nothing() -> None:
    clock, one = ManualClock(), endpoint()
    Lease(one, clock, prompt=10).answered()
    assert one.prefill_rate > 0


def test_a_failure_is_charged_and_not_taken_for_a_latency() -> None:
    clock, one = ManualClock(), endpoint()
    Lease(one, clock).release(failed=True)
    assert one.penalty(clock.monotonic()) > 0
    assert one.latency(clock.monotonic()) == 0


def test_a_client_that_leaves_says_nothing_about_the_endpoint() -> None:
    clock, one = ManualClock(), endpoint()
    lease = Lease(one, clock)
    clock.advance(60.0)
    lease.release(neutral=True)
    assert (one.penalty(clock.monotonic()), one.latency(clock.monotonic())) == (0, 0)


class AnyOrder(RuleBasedStateMachine):
    """Leases on two endpoints: answered, produced, released, each at any time and any number of times."""

    leases = Bundle("leases")
    over = Bundle("over")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.endpoints = [endpoint("a"), endpoint("b")]
        self.open: dict[Lease, tuple[int, int]] = {}

    @rule(target=leases, number=st.integers(0, 1), prompt=st.integers(0, 50), tokens=st.integers(0, 50))
    def take(self, number: int, prompt: int, tokens: int) -> Lease:
        lease = Lease(self.endpoints[number], self.clock, prompt=prompt, tokens=tokens)
        self.open[lease] = (prompt, tokens)
        return lease

    @rule(lease=leases)
    def answered(self, lease: Lease) -> None:
        lease.answered()
        self.open[lease] = (0, self.open[lease][1])

    @rule(lease=leases, tokens=st.integers(0, 60))
    def produced(self, lease: Lease, tokens: int) -> None:
        lease.produced(tokens)
        prompt, left = self.open[lease]
        self.open[lease] = (prompt, max(0, left - tokens))

    @rule(target=over, lease=consumes(leases), failed=st.booleans(), neutral=st.booleans())
    def release(self, lease: Lease, failed: bool, neutral: bool) -> Lease:
        lease.release(failed=failed, neutral=neutral)
        del self.open[lease]
        return lease

    @rule(lease=over)
    def touched_after_the_end(self, lease: Lease) -> None:
        lease.answered()
        lease.produced(5)
        lease.release(failed=True)

    @rule(seconds=st.floats(0, 10))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def what_is_charged_is_what_is_held(self) -> None:
        for one in self.endpoints:
            held = [load for lease, load in self.open.items() if lease.endpoint is one]
            assert one.active == len(held)
            assert one.queued_tokens == sum(prompt for prompt, _ in held)
            assert one.tokens == sum(tokens for _, tokens in held)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
