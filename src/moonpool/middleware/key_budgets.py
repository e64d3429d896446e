"""What each key with a budget can still spend, as this process knows it. Pure; amounts are nano-units.

    left = budget - spent since the period began - (charged here, and not in that yet) - (reserved here)

As with balances (middleware/purses.py): billing tells what was spent and how much of it was this process's
own, and what was charged here counts until billing has it. A period that is over is left behind by this
process's own clock; what billing tells of an older one than the present counts for nothing.
"""

from collections.abc import Sequence

from moonpool.contracts.budgets import KeyBudget, begun, renews
from moonpool.core.clock import Clock


class KeyPurse:
    """`since` is the beginning of the period that the sums are of."""

    __slots__ = (
        "_clock",
        "_ends",
        "amount",
        "charged",
        "charged_at",
        "period",
        "posted",
        "reserved",
        "since",
        "spent",
    )

    def __init__(self, told: KeyBudget, clock: Clock) -> None:
        self._clock = clock
        self.amount = told.amount or 0
        self.period = told.period
        self.reserved = 0
        self.charged = 0
        self.charged_at = 0.0
        self.spent = 0
        self.posted = 0
        self._begin(told.since)
        self._take(told)

    def left(self) -> int:
        """Below zero when an answer was longer than its reservation, or elsewhere more was spent."""
        self._turn()
        return self.amount - self.spent - (self.charged - self.posted) - self.reserved

    def charge(self, amount: int) -> None:
        self._turn()
        self.charged += amount
        self.charged_at = self._clock.monotonic()

    def renews(self) -> int | None:
        self._turn()
        return self._ends

    def update(self, told: KeyBudget) -> None:
        """What billing says now."""
        self.amount = told.amount or 0
        if told.period is not self.period:
            unposted = self.charged - self.posted
            self.period = told.period
            self._begin(told.since)
            self._take(told)
            self.charged = max(unposted, self.posted)  # what is posted already was among the unposted
        elif told.since > self.since:
            self._begin(told.since)
            self._take(told)
        elif told.since == self.since:
            if told.posted < self.posted:  # forgotten there, long after all of it was posted
                self.charged -= self.posted
            self.spent, self.posted = told.spent, told.posted

    def forget(self, latest: float) -> None:
        """Billing has counted everything: what was charged before `latest` and is not posted is lost."""
        if self.charged != self.posted and self.charged_at < latest:
            self.charged = self.posted

    def known(self, key: str) -> KeyBudget:
        """For the next start, which has charged nothing."""
        spent = self.spent + self.charged - self.posted
        return KeyBudget(key, self.amount, self.period, self.since, spent)

    def _take(self, told: KeyBudget) -> None:
        """At the beginning, when nothing was charged here that is not posted."""
        self.spent = told.spent
        self.posted = self.charged = told.posted

    def _turn(self) -> None:
        if self._ends is not None and self._clock.time() >= self._ends:
            self._begin(begun(self.period, self._clock.time()))

    def _begin(self, since: int) -> None:
        self.since = since
        self._ends = renews(self.period, since)
        self.spent = self.posted = self.charged = 0


class KeyBudgets:
    """`purses` has the keys that have a budget, by their public id: on most platforms none. Touched in the
    event loop only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.purses: dict[str, KeyPurse] = {}
        self._remembered: set[str] = set()

    def update(self, told: Sequence[KeyBudget], *, complete: bool = True) -> None:
        """`complete`: billing has named all there are by now."""
        for each in told:
            self._remembered.discard(each.key)
            purse = self.purses.get(each.key)
            if each.amount is None:
                self.purses.pop(each.key, None)
            elif purse is None:
                self.purses[each.key] = KeyPurse(each, self._clock)
            else:
                purse.update(each)
        if complete and self._remembered:
            for key in self._remembered:
                self.purses.pop(key, None)
            self._remembered.clear()

    def forget(self, latest: float) -> None:
        for purse in self.purses.values():
            purse.forget(latest)

    def known(self) -> list[KeyBudget]:
        return [purse.known(key) for key, purse in self.purses.items()]

    def remember(self, kept: Sequence[KeyBudget]) -> None:
        """What was kept before this start, until billing tells better."""
        for each in kept:
            if each.key not in self.purses and each.amount is not None:
                self.purses[each.key] = KeyPurse(each, self._clock)
                self._remembered.add(each.key)
