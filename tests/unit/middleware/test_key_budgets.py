"""What is left of a key's budget, whatever billing has heard of by now, from one period to the next."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from moonpool.contracts.balances import Balances
from moonpool.contracts.budgets import KeyBudget, Period, begun
from moonpool.contracts.config import BillingConfig
from moonpool.core.clock import ManualClock
from moonpool.middleware.key_budgets import KeyBudgets, KeyPurse
from moonpool.middleware.purses import FORGET, Purses

DAY = 86_400
TODAY = 1_700_006_400
"""A midnight."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall=TODAY + 3600.0)


@pytest.fixture
def budgets(clock: ManualClock) -> KeyBudgets:
    return KeyBudgets(clock)


def told(amount: int | None, spent: int = 0, posted: int = 0, **more: object) -> KeyBudget:
    fields = {"period": Period.DAY, "since": TODAY, **more}
    return KeyBudget("key_1", amount, spent=spent, posted=posted, **fields)  # type: ignore[arg-type]


def the(budgets: KeyBudgets) -> KeyPurse:
    return budgets.purses["key_1"]


def test_what_was_charged_counts_until_billing_has_it(budgets: KeyBudgets) -> None:
    budgets.update([told(100)])
    the(budgets).charge(30)
    assert the(budgets).left() == 70
    budgets.update([told(100, 10, 10)])
    assert the(budgets).left() == 70
    budgets.update([told(100, 50, 30)])  # and twenty of another gateway
    assert the(budgets).left() == 50
    the(budgets).reserved = 5
    assert the(budgets).left() == 45


def test_a_new_day_begins_with_the_whole_budget(budgets: KeyBudgets, clock: ManualClock) -> None:
    budgets.update([told(100, 60)])
    the(budgets).charge(30)
    assert (the(budgets).left(), the(budgets).renews()) == (10, TODAY + DAY)
    clock.advance(DAY - 3601)
    assert the(budgets).left() == 10
    clock.advance(1)
    assert (the(budgets).left(), the(budgets).renews()) == (100, TODAY + 2 * DAY)
    budgets.update([told(100, 90, 30)])  # of yesterday
    assert the(budgets).left() == 100
    the(budgets).charge(7)
    budgets.update([told(100, 9, 7, since=TODAY + DAY)])
    assert the(budgets).left() == 91


def test_another_ones_new_day_is_ours_as_well(budgets: KeyBudgets) -> None:
    """Clocks differ: billing has heard of tomorrow's usage before it is tomorrow here."""
    budgets.update([told(100, 60)])
    budgets.update([told(100, 1, since=TODAY + DAY)])
    assert (the(budgets).left(), the(budgets).renews()) == (99, TODAY + 2 * DAY)


def test_what_is_reserved_over_midnight_is_given_back(budgets: KeyBudgets, clock: ManualClock) -> None:
    budgets.update([told(100)])
    the(budgets).reserved += 40
    clock.advance(DAY)
    assert the(budgets).left() == 60
    the(budgets).reserved -= 40
    the(budgets).charge(15)
    assert the(budgets).left() == 85


def test_a_total_is_spent_for_good(budgets: KeyBudgets, clock: ManualClock) -> None:
    budgets.update([told(100, 99, period=Period.TOTAL, since=0)])
    clock.advance(400 * DAY)
    assert (the(budgets).left(), the(budgets).renews()) == (1, None)


def test_another_budget_takes_its_place_at_once(budgets: KeyBudgets, clock: ManualClock) -> None:
    month = begun(Period.MONTH, clock.time())
    budgets.update([told(100, 60)])
    budgets.update([told(500, 60)])
    assert the(budgets).left() == 440
    the(budgets).charge(10)
    budgets.update([told(500, 300, 10, period=Period.MONTH, since=month)])
    assert the(budgets).left() == 200
    budgets.update([told(500, 70, 10)])
    assert the(budgets).left() == 430
    budgets.update([told(None)])
    assert budgets.purses == {}


def test_what_billing_has_forgotten_is_not_owed_again(budgets: KeyBudgets) -> None:
    budgets.update([told(100, period=Period.TOTAL, since=0)])
    the(budgets).charge(30)
    budgets.update([told(100, 30, 30, period=Period.TOTAL, since=0)])
    budgets.update([told(100, 30, 0, period=Period.TOTAL, since=0)])
    assert the(budgets).left() == 70


def test_a_charge_that_never_comes_is_forgotten_when_all_is_counted(clock: ManualClock) -> None:
    purses = Purses(BillingConfig(), clock)
    purses.update(Balances(mark="1", budgets=(told(100),)))
    the(purses.keys).charge(30)
    clock.advance(FORGET + 1)
    purses.update(Balances(mark="1", settled=False))
    assert the(purses.keys).left() == 70
    purses.update(Balances(mark="1", settled=True))
    assert the(purses.keys).left() == 100


def test_what_is_kept_for_the_next_start(budgets: KeyBudgets, clock: ManualClock) -> None:
    budgets.update([told(100, 20)])
    the(budgets).charge(30)
    later = KeyBudgets(clock)
    later.remember(budgets.known())
    assert the(later).left() == 50
    the(later).charge(5)
    later.update([told(100, 50)])  # the charges of the process before; not yet this one's
    assert the(later).left() == 45


def test_a_budget_that_billing_does_not_know_any_more_is_none(
    budgets: KeyBudgets, clock: ManualClock
) -> None:
    budgets.update([told(100, 100)])
    later = KeyBudgets(clock)
    later.remember(budgets.known())
    later.update([], complete=False)
    assert the(later).left() == 0
    later.update([])
    assert later.purses == {}


class Spending(RuleBasedStateMachine):
    """Two gateways and a billing that hears of charges late, over days; news reaches each when it likes."""

    BUDGET = 1000

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(wall=float(TODAY))
        self.gateways = [KeyBudgets(self.clock) for _ in range(2)]
        self.late: list[tuple[int, int, int]] = []
        self.since, self.spent, self.posted = TODAY, 0, [0, 0]
        self.charged: dict[int, list[int]] = {}
        self.heard = [0, 0]
        for number in range(2):
            self.tell(number)

    @property
    def day(self) -> int:
        return begun(Period.DAY, self.clock.time())

    @rule(number=st.integers(0, 1), amount=st.integers(1, 300), used=st.integers(0, 300))
    def spend(self, number: int, amount: int, used: int) -> None:
        purse = the(self.gateways[number])
        if amount <= purse.left():
            used = min(used, amount)
            purse.charge(used)
            self.charged.setdefault(self.day, [0, 0])[number] += used
            self.late.append((self.day, number, used))

    @rule(data=st.data())
    def post(self, data: st.DataObject) -> None:
        if not self.late:
            return
        day, number, used = self.late.pop(data.draw(st.integers(0, len(self.late) - 1)))
        if day > self.since:
            self.since, self.spent, self.posted = day, 0, [0, 0]
        if day == self.since:
            self.spent += used
            self.posted[number] += used

    @rule(hours=st.integers(1, 30))
    def wait(self, hours: int) -> None:
        before = self.day
        self.clock.advance(hours * 3600.0)
        if self.day != before:
            self.heard = [0, 0]

    @rule(number=st.integers(0, 1))
    def tell(self, number: int) -> None:
        news = told(self.BUDGET, self.spent, self.posted[number], since=self.since)
        self.gateways[number].update([news])
        if self.since == self.day:
            self.heard[number] = self.posted[1 - number]

    @invariant()
    def overshoot_is_what_the_other_one_had_not_heard_of(self) -> None:
        charged = self.charged.get(self.day, [0, 0])
        unheard = sum(charged[1 - number] - self.heard[number] for number in range(2))
        assert sum(charged) - self.BUDGET <= unheard

    @invariant()
    def nothing_of_what_was_spent_here_is_lost(self) -> None:
        for number, gateway in enumerate(self.gateways):
            own = self.charged.get(self.day, [0, 0])[number]
            assert the(gateway).left() <= self.BUDGET - own


Spending.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestSpending = Spending.TestCase
