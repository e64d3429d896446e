"""What billing tells those who spend: each organisation's balance, what was spent of each key's budget, and
how much of it was theirs.

A spender (a gateway, or a service that asks models itself) counts what it has charged since it started. With
`posted`, of which it is told beside the balance, it knows what of that the balance does not yet have.
"""

from typing import Protocol

import msgspec

from moonpool.contracts.budgets import KeyBudget


class Balance(msgspec.Struct, frozen=True, array_like=True):
    """`amount` in nano-units; `posted` is what was taken off it, so far, for the source that asks."""

    tenant: str
    amount: int
    posted: int = 0


class Balances(msgspec.Struct, frozen=True, kw_only=True):
    """What has changed since a mark. `mark` is to be sent next time; one of another database (`epoch`) means
    nothing and gets everything. `more`: there are further changes already.

    `settled`: billing had nothing left to count when this was asked.
    """

    mark: str
    balances: tuple[Balance, ...] = ()
    budgets: tuple[KeyBudget, ...] = ()
    more: bool = False
    settled: bool = False


class BalanceClient(Protocol):
    async def balances(self, source: str, mark: str = "") -> Balances:
        """Waits about a second for changes. Raises Unavailable when billing is away."""
