"""What each organisation can still spend, as this process knows it. Pure; amounts are nano-units.

    spendable = balance + overdraft - (charged here, and not in that balance yet) - (reserved here)

Billing publishes balances, each with what of it was this process's own (contracts/balances.py). Charges are
counted here at once and stay counted until billing has them: so while billing is away, requests go on within
the last known balance, and nothing is ever counted twice. What other processes spend is known when billing
has it (docs/adr/0016).
"""

from moonpool.contracts.balances import Balances
from moonpool.contracts.config import BillingConfig
from moonpool.contracts.money import nano
from moonpool.core.clock import Clock
from moonpool.middleware.key_budgets import KeyBudgets

FORGET = 60.0
"""Seconds. What was charged that long ago, and is not in a balance although billing has counted everything,
will never be: its event is a repetition, or was refused."""


class Purse:
    """`balance` is None until billing has told it."""

    __slots__ = ("balance", "charged", "charged_at", "posted", "reserved")

    def __init__(self, balance: int | None) -> None:
        self.balance = balance
        self.posted = 0
        self.charged = 0
        self.charged_at = 0.0
        self.reserved = 0


class Purses:
    """Touched in the event loop only."""

    def __init__(self, config: BillingConfig, clock: Clock) -> None:
        self._clock = clock
        self._purses: dict[str, Purse] = {}
        self._complete = False
        self.keys = KeyBudgets(clock)
        self.set_terms(config)

    def set_terms(self, config: BillingConfig) -> None:
        self._overdraft = nano(config.overdraft)
        self.enforce = config.enforce
        self.currency = config.currency

    def of(self, tenant: str) -> Purse:
        purse = self._purses.get(tenant)
        if purse is None:
            # Whom billing does not name when it has named all has never been credited.
            purse = self._purses[tenant] = Purse(0 if self._complete else None)
        return purse

    def spendable(self, purse: Purse) -> int | None:
        """None: nobody knows."""
        if purse.balance is None:
            return None
        return purse.balance + self._overdraft - (purse.charged - purse.posted) - purse.reserved

    def charge(self, purse: Purse, amount: int) -> None:
        purse.charged += amount
        purse.charged_at = self._clock.monotonic()

    def update(self, news: Balances) -> None:
        """What billing has told."""
        for told in news.balances:
            purse = self.of(told.tenant)
            if told.posted < purse.posted:  # forgotten there, long after all of it was posted
                purse.charged -= purse.posted
            purse.balance, purse.posted = told.amount, told.posted
        self.keys.update(news.budgets, complete=not news.more)
        if news.more:
            return
        if not self._complete:
            self._complete = True
            for purse in self._purses.values():
                if purse.balance is None:
                    purse.balance = 0
        if news.settled:
            self._forget()

    def _forget(self) -> None:
        latest = self._clock.monotonic() - FORGET
        self.keys.forget(latest)
        for purse in self._purses.values():
            if purse.charged != purse.posted and purse.charged_at < latest:
                purse.charged = purse.posted

    def known(self) -> dict[str, int]:
        """What of each organisation's last known balance is left, to be kept for the next start."""
        return {
            tenant: purse.balance - (purse.charged - purse.posted)
            for tenant, purse in self._purses.items()
            if purse.balance is not None
        }

    def remember(self, kept: dict[str, int]) -> None:
        """What was kept before this start, until billing tells better."""
        for tenant, balance in kept.items():
            purse = self.of(tenant)
            if purse.balance is None:
                purse.balance = balance
