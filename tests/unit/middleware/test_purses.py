"""What can be spent is the balance less what was spent, whatever billing has heard of by now."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from moonpool.contracts.balances import Balance, Balances
from moonpool.contracts.config import BillingConfig
from moonpool.core.clock import ManualClock
from moonpool.middleware.purses import FORGET, Purses


def news(*balances: Balance, more: bool = False, settled: bool = False) -> Balances:
    return Balances(mark="1", balances=balances, more=more, settled=settled)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def purses(clock: ManualClock) -> Purses:
    return Purses(BillingConfig(), clock)


def left(purses: Purses, tenant: str = "org") -> int | None:
    return purses.spendable(purses.of(tenant))


def test_nobody_knows_before_billing_has_told_everything(purses: Purses) -> None:
    assert left(purses) is None
    purses.update(news(Balance("other", 5), more=True))
    assert (left(purses), left(purses, "other"), left(purses, "third")) == (None, 5, None)
    purses.update(news())
    assert (left(purses), left(purses, "third"), left(purses, "new")) == (0, 0, 0)


def test_what_was_charged_counts_until_the_balance_has_it(purses: Purses) -> None:
    purses.update(news(Balance("org", 100)))
    purses.charge(purses.of("org"), 30)
    assert left(purses) == 70
    purses.update(news(Balance("org", 90, 10)))  # ten of the thirty
    assert left(purses) == 70
    purses.update(news(Balance("org", 50, 30)))  # all, and twenty of another gateway
    assert left(purses) == 50


def test_the_overdraft_can_be_spent(clock: ManualClock) -> None:
    purses = Purses(BillingConfig(overdraft=1e-7), clock)
    purses.update(news(Balance("org", 5)))
    assert left(purses) == 105
    purses.set_terms(BillingConfig())
    assert left(purses) == 5


def test_what_billing_has_forgotten_is_not_owed_again(purses: Purses) -> None:
    purses.update(news(Balance("org", 100)))
    purses.charge(purses.of("org"), 30)
    purses.update(news(Balance("org", 70, 30)))
    purses.update(news(Balance("org", 90, 0)))  # a credit, a week later
    assert left(purses) == 90
    purses.charge(purses.of("org"), 1)
    assert left(purses) == 89
    purses.update(news(Balance("org", 89, 1)))
    assert left(purses) == 89


def test_a_charge_that_never_comes_is_forgotten_when_all_is_counted(
    purses: Purses, clock: ManualClock
) -> None:
    purses.update(news(Balance("org", 100)))
    purses.charge(purses.of("org"), 30)
    clock.advance(FORGET - 1)
    purses.update(news(settled=True))
    assert left(purses) == 70
    clock.advance(2)
    purses.update(news(settled=False))
    assert left(purses) == 70
    purses.update(news(settled=True))
    assert left(purses) == 100


def test_what_is_kept_for_the_next_start(purses: Purses, clock: ManualClock) -> None:
    purses.update(news(Balance("org", 100)))
    purses.charge(purses.of("org"), 30)
    purses.of("org").reserved = 7
    later = Purses(BillingConfig(), clock)
    later.remember(purses.known())
    assert left(later) == 70
    later.update(news(Balance("org", 65)))
    assert left(later) == 65


class Spending(RuleBasedStateMachine):
    """Two gateways and a billing that hears of charges late; news reaches each gateway when it likes."""

    def __init__(self) -> None:
        super().__init__()
        clock = ManualClock()
        self.gateways = [Purses(BillingConfig(), clock) for _ in range(2)]
        self.balance, self.credited, self.charged = 0, 0, [0, 0]
        self.posted = [0, 0]
        self.heard = [0, 0]
        """What the other gateway had spent when this one heard last."""
        for number in range(2):
            self.tell(number)

    @rule(amount=st.integers(1, 1000))
    def credit(self, amount: int) -> None:
        self.balance += amount
        self.credited += amount

    @rule(number=st.integers(0, 1), amount=st.integers(1, 300), used=st.integers(0, 300))
    def spend(self, number: int, amount: int, used: int) -> None:
        purses = self.gateways[number]
        purse = purses.of("org")
        spendable = purses.spendable(purse)
        assert spendable is not None
        if amount <= spendable:
            used = min(used, amount)
            purses.charge(purse, used)
            self.charged[number] += used

    @rule(number=st.integers(0, 1), share=st.floats(0, 1))
    def post(self, number: int, share: float) -> None:
        amount = int((self.charged[number] - self.posted[number]) * share)
        self.posted[number] += amount
        self.balance -= amount

    @rule(number=st.integers(0, 1))
    def tell(self, number: int) -> None:
        self.gateways[number].update(news(Balance("org", self.balance, self.posted[number])))
        self.heard[number] = self.posted[1 - number]

    @invariant()
    def overshoot_is_what_the_other_one_had_not_heard_of(self) -> None:
        """The bound of docs/adr/0016: no more is overspent than what the gateways did not know of each
        other."""
        overspent = sum(self.charged) - self.credited
        unheard = sum(self.charged[1 - number] - self.heard[number] for number in range(2))
        assert overspent <= unheard


Spending.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestSpending = Spending.TestCase
