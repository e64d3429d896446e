"""The budget under any order of requests and retries: what it promises holds at every instant."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from moonpool.contracts.resilience import RetryPolicy
from moonpool.middleware.retry_budget import RetryBudget

POLICY = RetryPolicy()


def drain(budget: RetryBudget, now: float) -> int:
    count = 0
    while budget.withdraw(now):
        count += 1
    return count


def test_a_quiet_process_may_retry_ten_a_second() -> None:
    budget = RetryBudget(POLICY)
    assert drain(budget, 1000.0) == 100
    assert budget.denied == 1
    assert drain(budget, 1009.9) == 0
    assert drain(budget, 1011.0) == 100


@pytest.mark.parametrize(("requests", "expected"), [(0, 0), (4, 0), (5, 1), (15, 3), (1000, 200)])
def test_one_in_five_requests_may_be_tried_again(requests: int, expected: int) -> None:
    budget = RetryBudget(RetryPolicy(budget_per_second=0.0))
    for _ in range(requests):
        budget.deposit(1000.0)
    assert drain(budget, 1000.5) == expected


def test_what_was_earned_is_forgotten_after_ten_seconds() -> None:
    budget = RetryBudget(RetryPolicy(budget_per_second=0.0))
    for second in range(10):
        for _ in range(10):
            budget.deposit(1000.0 + second)
    assert budget.available(1009.5) == pytest.approx(20.0)
    assert budget.available(1010.5) == pytest.approx(18.0)
    assert budget.available(1018.5) == pytest.approx(2.0)
    assert budget.available(1019.5) == pytest.approx(0.0, abs=1e-6)


def test_at_total_failure_attempts_stay_in_proportion() -> None:
    """100 requests a second for a minute, each of which would like to be tried twice again."""
    budget = RetryBudget(RetryPolicy(budget_per_second=0.0))
    retries = 0
    for i in range(6000):
        now = 1000.0 + i / 100.0
        budget.deposit(now)
        retries += budget.withdraw(now) + budget.withdraw(now)
    assert 0.8 * 1200 <= retries <= 1200


def test_another_policy_keeps_what_was_earned_and_spent() -> None:
    budget = RetryBudget(RetryPolicy(budget_per_second=0.0))
    for _ in range(100):
        budget.deposit(1000.0)
    assert drain(budget, 1000.5) == 20
    budget.update(RetryPolicy(budget_share=0.5, budget_per_second=1.0))
    assert drain(budget, 1000.5) == 50 + 10 - 20
    budget.update(RetryPolicy(budget_share=0.1, budget_per_second=0.0))
    assert budget.available(1001.0) == pytest.approx(10.0 - 60.0)


@pytest.mark.parametrize("window", [1.0, 100.0])
def test_another_window_is_kept_once_it_is_over(window: float) -> None:
    budget = RetryBudget(POLICY)
    for _ in range(100):
        budget.deposit(1000.0)
    assert drain(budget, 1000.0) == 120
    budget.update(RetryPolicy(budget_window=window))
    later = 1000.0 + 1.1 * window + 1.0  # and what was left of the part that was going on
    assert drain(budget, later) == int(10.0 * window)
    assert drain(budget, later + 0.9 * window) == 0


def test_asking_what_is_left_spends_nothing() -> None:
    budget = RetryBudget(POLICY)
    assert [budget.available(1000.0) for _ in range(3)] == pytest.approx([100.0] * 3)
    assert budget.denied == 0


def test_what_is_covered_costs_nothing_until_it_fails() -> None:
    budget = RetryBudget(POLICY)
    assert all(budget.covers(1000.0) for _ in range(500))
    assert budget.available(1000.0) == pytest.approx(100.0)


def test_what_was_covered_and_failed_is_owed_for_the_window() -> None:
    budget = RetryBudget(POLICY)
    for _ in range(150):
        budget.charge(1000.0)
    assert budget.available(1000.0) == pytest.approx(-50.0)
    assert not budget.covers(1000.0)
    assert not budget.withdraw(1000.0)
    assert budget.denied == 2
    assert budget.covers(1011.0)


class Budgets(RuleBasedStateMachine):
    """Keeps every event and counts again, by brute force.

    Times are multiples of 1/8 s and widths of 1 s, so that no rounding hides a fault.
    """

    def __init__(self) -> None:
        super().__init__()
        self.budget = RetryBudget(RetryPolicy(budget_per_second=1.0))
        self.now = 1000.0
        self.deposits: list[float] = []
        self.granted: list[float] = []

    def recent(self, times: list[float], seconds: float) -> int:
        return sum(self.now - seconds < at <= self.now for at in times)

    @rule(eighths=st.one_of(st.integers(1, 16), st.integers(60, 120)))
    def time_passes(self, eighths: int) -> None:
        self.now += eighths / 8.0

    @rule(count=st.integers(1, 40))
    def requests_come(self, count: int) -> None:
        for _ in range(count):
            self.budget.deposit(self.now)
        self.deposits += [self.now] * count

    @rule(count=st.integers(1, 20))
    def attempts_are_wanted(self, count: int) -> None:
        for _ in range(count):
            granted = self.budget.withdraw(self.now)
            if granted:
                self.granted.append(self.now)
                spent = self.recent(self.granted, 10.0)
                assert spent <= 0.2 * self.recent(self.deposits, 10.0) + 10.0 + 1e-6
            else:  # nor is it meaner than one part at either end
                spent = self.recent(self.granted, 11.0)
                assert spent + 1 > 0.2 * self.recent(self.deposits, 9.0) + 10.0 - 1e-6

    @rule(count=st.integers(1, 20))
    def covered_attempts_fail(self, count: int) -> None:
        """They count as granted ones, also where the budget would have granted none."""
        for _ in range(count):
            self.budget.charge(self.now)
        self.granted += [self.now] * count


TestBudgets = Budgets.TestCase
TestBudgets.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
