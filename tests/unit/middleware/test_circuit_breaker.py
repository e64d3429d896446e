"""The breaker by tables, and under any order of calls, answers and time."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from moonpool.contracts.resilience import BreakerPolicy
from moonpool.middleware.circuit_breaker import (
    PROBING_RETRY_AFTER,
    Breaker,
    Permit,
    State,
    Verdict,
    first_token_budget,
)

POLICY = BreakerPolicy()
NOW = 1000.0


def make(policy: BreakerPolicy = POLICY, chance: float = 0.5) -> Breaker:
    """With a chance of 0.5 the jitter is none."""
    return Breaker(policy, lambda: chance)


def take(breaker: Breaker, now: float) -> Permit:
    permit = breaker.permit(now)
    assert permit is not None
    return permit


def fail(breaker: Breaker, now: float, count: int = 5, verdict: Verdict = Verdict.RESET) -> None:
    for _ in range(count):
        take(breaker, now).failed(now, verdict)


def recover(breaker: Breaker, now: float) -> None:
    for _ in range(sum(breaker.policy.probes)):
        take(breaker, now).succeeded(now)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("verdict", [each for each in Verdict if each is not Verdict.RATE_LIMITED])
def test_opens_on_the_fifth_failure_in_a_row(verdict: Verdict) -> None:
    breaker = make()
    fail(breaker, NOW, 4, verdict)
    assert breaker.admits(NOW)
    fail(breaker, NOW, 1, verdict)
    assert (breaker.state, breaker.cause) == (State.OPEN, verdict)
    assert not breaker.admits(NOW)
    assert breaker.permit(NOW) is None
    assert breaker.retry_after(NOW) == 5.0


def test_a_success_ends_the_row() -> None:
    breaker = make()
    for _ in range(4):
        fail(breaker, NOW, 4)
        take(breaker, NOW).succeeded(NOW)
    assert breaker.state is State.CLOSED


def test_neither_a_client_that_left_nor_a_429_is_part_of_a_row() -> None:
    breaker = make()
    fail(breaker, NOW, 4)
    take(breaker, NOW).neutral(NOW)
    fail(breaker, NOW, 10, Verdict.RATE_LIMITED)
    assert breaker.state is State.CLOSED
    fail(breaker, NOW, 1)
    assert breaker.state is State.OPEN


@pytest.mark.parametrize(
    ("successes", "failures", "opens"), [(10, 10, True), (11, 10, False), (10, 9, False), (0, 19, False)]
)
def test_opens_on_half_of_twenty_calls(successes: int, failures: int, opens: bool) -> None:
    breaker = make()
    for _ in range(successes):
        take(breaker, NOW).succeeded(NOW)
    fail(breaker, NOW, failures, Verdict.RATE_LIMITED)
    assert (breaker.state is State.OPEN) == opens


@pytest.mark.parametrize(("later", "opens"), [(26.9, True), (30.1, False), (300.0, False)])
def test_the_window_slides(later: float, opens: bool) -> None:
    breaker = make()
    fail(breaker, NOW, 19, Verdict.RATE_LIMITED)
    fail(breaker, NOW + later, 1, Verdict.RATE_LIMITED)
    assert (breaker.state is State.OPEN) == opens


def test_old_calls_leave_the_window_bucket_by_bucket() -> None:
    breaker = make()
    for second in range(0, 120, 3):
        now = NOW + second
        fail(breaker, now, 1, Verdict.RATE_LIMITED)  # ten in the window, however long it goes on
    assert breaker.state is State.CLOSED


def test_the_first_word_on_a_permit_counts() -> None:
    breaker = make()
    for _ in range(10):
        permit = take(breaker, NOW)
        permit.succeeded(NOW)
        permit.failed(NOW, Verdict.RESET)
        permit = take(breaker, NOW)
        permit.neutral(NOW)
        permit.failed(NOW, Verdict.RESET)
    assert breaker.state is State.CLOSED
    permit = take(breaker, NOW)
    for _ in range(5):
        permit.failed(NOW, Verdict.RESET)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 4.0), (0.5, 5.0), (0.999999, 6.0)])
def test_the_open_period_has_jitter(chance: float, seconds: float) -> None:
    breaker = make(chance=chance)
    fail(breaker, NOW)
    assert breaker.retry_after(NOW) == pytest.approx(seconds, abs=1e-4)


def test_the_open_period_doubles_up_to_300_seconds() -> None:
    breaker, now, periods = make(), NOW, []
    fail(breaker, now)
    for _ in range(8):
        periods.append(breaker.retry_after(now))
        now += periods[-1]
        fail(breaker, now, 1)
    assert periods == [5, 10, 20, 40, 80, 160, 300, 300]


@pytest.mark.parametrize(("healthy", "period"), [(59.0, 10.0), (60.0, 5.0)])
def test_only_health_that_lasts_makes_it_forget(healthy: float, period: float) -> None:
    breaker = make()
    fail(breaker, NOW)
    recover(breaker, NOW + 5)
    fail(breaker, NOW + 5 + healthy)
    assert breaker.retry_after(NOW + 5 + healthy) == pytest.approx(period)


def test_half_open_lets_one_two_and_four_through() -> None:
    breaker, now = make(), NOW + 5.0
    fail(breaker, NOW)
    assert breaker.admits(now)
    assert breaker.state_at(now) is State.HALF_OPEN
    for size in (1, 2, 4):
        permits = [take(breaker, now) for _ in range(size)]
        assert breaker.permit(now) is None
        assert not breaker.admits(now)
        assert breaker.retry_after(now) == PROBING_RETRY_AFTER
        for permit in permits[:-1]:
            permit.succeeded(now)
            assert breaker.permit(now) is None  # the round is not over: it takes all of them
        permits[-1].succeeded(now)
    assert breaker.state is State.CLOSED
    assert all(breaker.permit(now) for _ in range(50))


def test_a_failed_probe_opens_it_and_its_companions_tell_nothing() -> None:
    breaker, now = make(), NOW + 5.0
    fail(breaker, NOW)
    take(breaker, now).succeeded(now)
    first, second = take(breaker, now), take(breaker, now)
    first.failed(now, Verdict.FIRST_TOKEN)
    assert (breaker.state, breaker.retry_after(now)) == (State.OPEN, 10.0)
    now += 10.0
    probe = take(breaker, now)
    second.failed(now, Verdict.FIRST_TOKEN)
    assert breaker.state is State.HALF_OPEN
    assert breaker.probes_in_flight(now) == 1
    probe.succeeded(now)
    assert len([take(breaker, now), take(breaker, now)]) == 2


def test_a_neutral_probe_frees_its_slot_and_proves_nothing() -> None:
    breaker, now = make(), NOW + 5.0
    fail(breaker, NOW)
    for _ in range(20):
        take(breaker, now).neutral(now)
    assert breaker.state is State.HALF_OPEN
    recover(breaker, now)


def test_a_probe_that_never_comes_back_does_not_wedge_it() -> None:
    breaker, now = make(), NOW + 5.0
    fail(breaker, NOW)
    lost = take(breaker, now)
    assert breaker.permit(now + 59.9) is None
    now += 60.0
    assert breaker.admits(now)
    recover(breaker, now)
    lost.failed(now, Verdict.STALL)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("settle", ["succeeded", "answered"])
def test_a_lease_that_is_over_is_neutral_even_if_nobody_took_its_slot(settle: str) -> None:
    breaker, now = make(), NOW + 5.0
    fail(breaker, NOW)
    late = take(breaker, now)
    getattr(late, settle)(now + 60.0)
    other = take(breaker, now + 60.0)
    assert breaker.permit(now + 60.0) is None  # still the first round
    late.failed(now + 60.0, Verdict.RESET)
    assert breaker.state is State.HALF_OPEN
    other.succeeded(now + 60.0)


def test_the_first_content_proves_a_probe_and_a_break_later_still_counts() -> None:
    breaker, now = make(), NOW + 5.0
    fail(breaker, NOW)
    streams = []
    for _ in range(3):
        streams.append(take(breaker, now))
        streams[-1].answered(now)
        streams[-1].answered(now)
    streams[0].failed(now + 100.0, Verdict.TRUNCATION)
    assert (breaker.state, breaker.cause) == (State.OPEN, Verdict.TRUNCATION)


def test_a_probe_that_breaks_after_closing_is_one_failure_among_others() -> None:
    breaker, now = make(), NOW + 5.0
    fail(breaker, NOW)
    streams = []
    for _ in range(7):
        streams.append(take(breaker, now))
        streams[-1].answered(now)
    assert breaker.state is State.CLOSED
    for stream in streams[:4]:
        stream.failed(now, Verdict.TRUNCATION)
    assert breaker.state is State.CLOSED
    streams[4].failed(now, Verdict.TRUNCATION)
    assert breaker.state is State.OPEN


def test_calls_from_before_it_opened_tell_nothing_about_after() -> None:
    breaker = make()
    old = [take(breaker, NOW) for _ in range(20)]
    fail(breaker, NOW)
    for permit in old[:10]:
        permit.failed(NOW + 1, Verdict.RESET)
    assert breaker.retry_after(NOW) == 5.0
    recover(breaker, NOW + 5)
    for permit in old[10:]:
        permit.failed(NOW + 6, Verdict.RESET)
    assert breaker.state is State.CLOSED


def test_a_pause_that_was_asked_for_is_kept_and_is_no_trip() -> None:
    breaker = make(chance=0.0)
    fail(breaker, NOW, 4)
    take(breaker, NOW).failed(NOW, Verdict.RATE_LIMITED, 7.0)
    assert (breaker.state, breaker.cause) == (State.OPEN, Verdict.RATE_LIMITED)
    assert breaker.retry_after(NOW) == 7.0
    assert breaker.permit(NOW + 6.9) is None
    assert breaker.state_at(NOW + 7) is State.CLOSED
    assert all(breaker.permit(NOW + 7) for _ in range(20))
    fail(breaker, NOW + 7, 1)  # the row from before goes on
    assert breaker.state is State.OPEN
    assert breaker.retry_after(NOW + 7) == 4.0


def test_a_pause_is_never_shortened_and_bounded() -> None:
    breaker = make(chance=0.0)
    permits = [take(breaker, NOW) for _ in range(3)]
    for permit, seconds in zip(permits, (20.0, 1.0, 1e9), strict=True):
        permit.failed(NOW, Verdict.RATE_LIMITED, seconds)
        assert breaker.retry_after(NOW) == (20.0 if seconds <= 20.0 else 300.0)


def test_faults_during_a_pause_open_it_for_real() -> None:
    breaker = make(chance=0.5)
    permits = [take(breaker, NOW) for _ in range(6)]
    permits[0].failed(NOW, Verdict.RATE_LIMITED, 1.0)
    for permit in permits[1:]:
        permit.failed(NOW, Verdict.CONNECT)
    assert breaker.cause is Verdict.CONNECT
    assert breaker.retry_after(NOW) == 5.0
    assert breaker.state_at(NOW + 5) is State.HALF_OPEN


@pytest.mark.parametrize("wait", [None, 1.0])
def test_a_429_is_no_failed_probe(wait: float | None) -> None:
    """It neither opens the breaker for twice as long nor proves anything."""
    breaker, now = make(), NOW + 5.0
    fail(breaker, NOW)
    take(breaker, now).succeeded(now)
    probe, companion = take(breaker, now), take(breaker, now)
    probe.failed(now, Verdict.RATE_LIMITED, wait)
    assert breaker.retry_after(now) == (wait or 0.0)
    now += wait or 0.0
    assert (breaker.state_at(now), breaker.probes_in_flight(now)) == (State.HALF_OPEN, 1)
    companion.succeeded(now)
    take(breaker, now).succeeded(now)  # which ends the round of two
    assert len([take(breaker, now) for _ in range(4)]) == 4
    assert breaker.permit(now) is None
    assert breaker.retry_after(now) == PROBING_RETRY_AFTER


def test_probes_that_come_back_during_a_pause_count_and_do_not_end_it() -> None:
    breaker, now = make(), NOW + 5.0
    fail(breaker, NOW)
    for _ in range(3):
        take(breaker, now).succeeded(now)
    probes = [take(breaker, now) for _ in range(4)]
    for probe in probes:
        probe.answered(now)
        probe.failed(now, Verdict.RATE_LIMITED, 3.0)
    assert (breaker.state, breaker.permit(now + 2.9)) == (State.OPEN, None)
    assert breaker.state_at(now + 3.0) is State.CLOSED
    assert all(breaker.permit(now + 3.0) for _ in range(20))


def test_a_fault_during_the_pause_of_a_probe_opens_it_for_twice_as_long() -> None:
    breaker, now = make(), NOW + 5.0
    fail(breaker, NOW)
    take(breaker, now).succeeded(now)
    probe, companion = take(breaker, now), take(breaker, now)
    probe.failed(now, Verdict.RATE_LIMITED, 1.0)
    companion.failed(now, Verdict.RESET)
    assert (breaker.cause, breaker.retry_after(now)) == (Verdict.RESET, 10.0)
    assert breaker.state_at(now + 10.0) is State.HALF_OPEN


def test_an_endpoint_that_answers_probes_with_429_only_is_judged_by_the_ratio() -> None:
    breaker, now = make(), NOW + 5.0
    fail(breaker, NOW)
    for _ in range(19):
        take(breaker, now).failed(now, Verdict.RATE_LIMITED)
        assert breaker.state is State.HALF_OPEN
    take(breaker, now).failed(now, Verdict.RATE_LIMITED)
    assert (breaker.state, breaker.retry_after(now)) == (State.OPEN, 10.0)


def test_without_hold_retry_after_only_lengthens_an_opening() -> None:
    breaker = make(BreakerPolicy(hold=False))
    for _ in range(19):
        take(breaker, NOW).failed(NOW, Verdict.RATE_LIMITED, 30.0)
        assert breaker.state is State.CLOSED
    take(breaker, NOW).failed(NOW, Verdict.RATE_LIMITED, 30.0)
    assert breaker.retry_after(NOW) == 30.0


def test_a_forced_call_counts_for_nothing() -> None:
    breaker = make()
    fail(breaker, NOW)
    for _ in range(10):
        breaker.forced().failed(NOW, Verdict.RESET)
        breaker.forced().succeeded(NOW)
    assert breaker.retry_after(NOW) == 5.0


def test_changes_are_told_once() -> None:
    seen: list[tuple[State, State]] = []
    breaker = Breaker(POLICY, lambda: 0.5, lambda old, new: seen.append((old, new)))
    fail(breaker, NOW)
    fail(breaker, NOW + 5, 1)
    recover(breaker, NOW + 15)
    closed, opened, half = State.CLOSED, State.OPEN, State.HALF_OPEN
    assert seen == [(closed, opened), (opened, half), (half, opened), (opened, half), (half, closed)]


def test_another_policy_leaves_the_state_and_the_counts() -> None:
    breaker = make()
    fail(breaker, NOW, 3)
    breaker.update(BreakerPolicy(consecutive_failures=4, window=600.0, open_first=7.0, jitter=0.0))
    assert breaker.state is State.CLOSED
    fail(breaker, NOW, 1)
    assert breaker.state is State.OPEN
    assert breaker.retry_after(NOW) == 7.0
    breaker.update(BreakerPolicy(consecutive_failures=100, open_first=1.0))
    assert breaker.retry_after(NOW) == 7.0  # it is not over sooner, nor later
    recover(breaker, NOW + 7.0)


@pytest.mark.parametrize("flying", [True, False])
@pytest.mark.parametrize(
    ("passed", "probes"), [(6, (1,)), (3, (1, 2)), (1, (3, 3, 3)), (0, (2,)), (5, (1, 1))]
)
def test_half_open_closes_by_other_probes_too(passed: int, probes: tuple[int, ...], flying: bool) -> None:
    breaker = make()
    fail(breaker, NOW)
    now = NOW + 5.0
    for _ in range(passed):
        take(breaker, now).succeeded(now)
    probe = take(breaker, now)
    if not flying:
        probe.neutral(now)
    breaker.update(BreakerPolicy(probes=probes))
    assert breaker.state is State.HALF_OPEN
    probe.succeeded(now)
    for _ in range(sum(probes)):
        if breaker.state is State.HALF_OPEN:
            take(breaker, now).succeeded(now)
    assert breaker.state is State.CLOSED


def test_another_window_forgets_what_is_older_than_it() -> None:
    breaker = make()
    fail(breaker, NOW, 4, Verdict.RATE_LIMITED)
    breaker.update(BreakerPolicy(window=1.0, minimum_calls=6))
    fail(breaker, NOW + 4.0, 5, Verdict.RATE_LIMITED)
    assert breaker.state is State.CLOSED
    fail(breaker, NOW + 4.0, 1, Verdict.RATE_LIMITED)
    assert breaker.state is State.OPEN


@pytest.mark.parametrize(("tokens", "seconds"), [(0, 30.0), (1000, 35.0), (32_000, 190.0)])
def test_a_long_prompt_may_take_longer(tokens: int, seconds: float) -> None:
    policy = BreakerPolicy(first_token_base=30.0, first_token_per_1k=5.0)
    assert first_token_budget(policy, tokens) == seconds


@pytest.mark.parametrize("wrong", [b'{"ratio":1.5}', b'{"probes":[]}', b'{"window":0}', b'{"ratoi":0.5}'])
def test_wrong_settings_are_refused(wrong: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(wrong, type=BreakerPolicy)


class Breakings(RuleBasedStateMachine):
    """An endpoint that is sound or not, callers that settle late, twice or never, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.chance = 0.5
        self.policy = BreakerPolicy(minimum_calls=6, window=10.0)
        self.changes: list[tuple[State, State]] = []
        self.breaker = Breaker(self.policy, lambda: self.chance, lambda *change: self.changes.append(change))
        self.permits: list[Permit] = []
        self.no_sooner = 0.0
        self.settled = 0
        """Calls since it tripped for a fault, at least: the ratio is not judged with few of them."""
        self.widest = max(self.policy.probes)

    @rule(
        probes=st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple),
        window=st.sampled_from([1.0, 10.0, 100.0]),
        failures=st.integers(1, 6),
    )
    def the_policy_changes(self, probes: tuple[int, ...], window: float, failures: int) -> None:
        before = self.breaker.state_at(self.now)
        self.policy = replace(self.policy, probes=probes, window=window, consecutive_failures=failures)
        self.breaker.update(self.policy)
        assert self.breaker.state_at(self.now) is before
        self.widest = max(self.widest, *probes)

    @rule(seconds=st.one_of(st.floats(0.01, 3.0), st.floats(3.0, 100.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(chance=st.floats(0.0, 1.0, exclude_max=True))
    def luck_changes(self, chance: float) -> None:
        self.chance = chance

    @rule(count=st.integers(1, 8))
    def calls_come(self, count: int) -> None:
        for _ in range(count):
            admitted = self.breaker.admits(self.now)
            permit = self.breaker.permit(self.now)
            assert (permit is not None) == admitted
            if permit is not None:
                assert self.now >= self.no_sooner
                self.permits.append(permit)

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), how=st.sampled_from(["answered", "succeeded", "neutral"]), forget=st.booleans())
    def one_ends_well(self, data: st.DataObject, how: str, forget: bool) -> None:
        self.settled += 1
        getattr(self.pick(data, forget), how)(self.now)

    @precondition(lambda self: self.permits)
    @rule(
        data=st.data(),
        verdict=st.sampled_from(Verdict),
        retry_after=st.none() | st.floats(0.0, 20.0),
        forget=st.booleans(),
    )
    def one_fails(
        self, data: st.DataObject, verdict: Verdict, retry_after: float | None, forget: bool
    ) -> None:
        before = len(self.changes)
        permit = self.pick(data, forget)
        held = self.breaker.state is State.OPEN
        wait = self.breaker.retry_after(self.now)
        self.settled += 1
        permit.failed(self.now, verdict, retry_after)
        tripped = verdict is not Verdict.RATE_LIMITED
        if not tripped and self.settled < self.policy.minimum_calls:
            most = max(wait, retry_after or 0.0, PROBING_RETRY_AFTER)
            assert self.breaker.retry_after(self.now) <= most + 1e-6
        if len(self.changes) > before:
            assert not held
            if tripped:
                self.settled = 0
            self.no_sooner = self.now + (4.0 if tripped else min(retry_after or 4.0, 4.0))
            assert self.breaker.retry_after(self.now) <= 360.0 + 1e-6

    @precondition(lambda self: self.permits)
    @rule()
    def callers_vanish(self) -> None:
        self.permits.clear()

    @rule()
    def the_fault_ends(self) -> None:
        """From anywhere: one open period, or one lease if probes were lost, and the probes close it."""
        self.permits.clear()
        if self.breaker.state is State.OPEN:
            self.now += self.breaker.retry_after(self.now) + 1e-6
        if self.breaker.probes_in_flight(self.now):
            self.now += self.policy.probe_lease
        for _ in range(sum(self.policy.probes)):
            permit = self.breaker.permit(self.now)
            assert permit is not None
            permit.succeeded(self.now)
        assert self.breaker.state is State.CLOSED

    @invariant()
    def probes_are_limited(self) -> None:
        if self.breaker.state is not State.CLOSED:
            assert self.breaker.probes_in_flight(self.now) <= self.widest
        else:
            assert self.breaker.probes_in_flight(self.now) == 0

    @invariant()
    def changes_follow_each_other(self) -> None:
        state = State.CLOSED
        for old, new in self.changes:
            assert old is state
            assert new is not old
            state = new
        assert state is self.breaker.state

    def pick(self, data: st.DataObject, forget: bool) -> Permit:
        i = data.draw(st.integers(0, len(self.permits) - 1))
        return self.permits.pop(i) if forget else self.permits[i]


TestBreakings = Breakings.TestCase
TestBreakings.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
