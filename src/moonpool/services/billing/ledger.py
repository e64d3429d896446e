"""The double-entry ledger, as arithmetic. Pure; amounts are nano-units (contracts/money.py).

Every organisation has the same accounts. Each entry has lines whose debits equal their credits, and is never
changed: what was wrong is put right by another entry.

    top-up   payments    ──►  topped_up          usage   granted, then topped_up  ──►  revenue
    grant    promotions  ──►  granted                    what neither covers: uncollected  ──►  revenue

A balance (granted + topped_up) never falls below minus the overdraft. Usage is a fact and is always booked:
what was let through beyond that is the platform's loss, `uncollected`, and not the organisation's debt.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec


class Account(StrEnum):
    GRANTED = "granted"
    """What we owe the organisation of what it was given. Spent first."""
    TOPPED_UP = "topped_up"
    """What we owe it of what it has paid. Negative: what it owes us."""
    REVENUE = "revenue"
    PAYMENTS = "payments"
    PROMOTIONS = "promotions"
    UNCOLLECTED = "uncollected"


class Kind(StrEnum):
    USAGE = "usage"
    TOP_UP = "top_up"
    GRANT = "grant"


class Line(NamedTuple):
    """Exactly one of the two is above zero."""

    account: Account
    debit: int
    credit: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """`id` of a usage entry is its usage event's. `at` is Unix seconds."""

    id: str
    at: float
    tenant: str
    kind: Kind
    lines: tuple[Line, ...]
    reference: str | None = None
    """The payment, or whatever the author knows the credit by: one entry of a kind for each."""
    author: str = ""
    note: str = ""


class Terms(msgspec.Struct, frozen=True):
    """How far balances may fall. `overdraft` is ignored where nothing is enforced."""

    overdraft: int = 0
    enforce: bool = True


class Book:
    """One organisation's accounts: all debits and all credits there ever were."""

    __slots__ = ("_sums",)

    def __init__(self, sums: Sequence[tuple[Account, int, int]] = ()) -> None:
        self._sums = {account: (debits, credits) for account, debits, credits in sums}

    def owed(self, account: Account) -> int:
        """Credits less debits."""
        debits, credits = self._sums.get(account, (0, 0))
        return credits - debits

    @property
    def balance(self) -> int:
        return self.owed(Account.GRANTED) + self.owed(Account.TOPPED_UP)

    def sums(self) -> list[tuple[Account, int, int]]:
        return [(account, *sums) for account, sums in self._sums.items()]

    def post(self, lines: Sequence[Line]) -> None:
        assert sum(line.debit for line in lines) == sum(line.credit for line in lines)
        for line in lines:
            assert min(line.debit, line.credit) == 0 < max(line.debit, line.credit)
            debits, credits = self._sums.get(line.account, (0, 0))
            self._sums[line.account] = (debits + line.debit, credits + line.credit)


def charge(book: Book, cost: int, terms: Terms) -> tuple[Line, ...]:
    """What usage of `cost` (above 0) takes from where."""
    granted = min(cost, max(book.owed(Account.GRANTED), 0))
    rest = cost - granted
    topped_up = rest
    if terms.enforce:
        topped_up = min(rest, max(book.owed(Account.TOPPED_UP) + terms.overdraft, 0))
    taken = (
        (Account.GRANTED, granted),
        (Account.TOPPED_UP, topped_up),
        (Account.UNCOLLECTED, rest - topped_up),
    )
    debits = tuple(Line(account, amount, 0) for account, amount in taken if amount)
    return (*debits, Line(Account.REVENUE, 0, cost))


def credit(kind: Kind, amount: int) -> tuple[Line, ...]:
    """A top-up or a grant; a negative amount takes one back."""
    source, to = {
        Kind.TOP_UP: (Account.PAYMENTS, Account.TOPPED_UP),
        Kind.GRANT: (Account.PROMOTIONS, Account.GRANTED),
    }[kind]
    if amount < 0:
        return Line(to, -amount, 0), Line(source, 0, -amount)
    return Line(source, amount, 0), Line(to, 0, amount)
