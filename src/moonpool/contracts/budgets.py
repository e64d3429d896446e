"""What an API key may spend, and when that begins anew.

Auth grants a key its budget and tells billing, which counts what the key has spent of it and tells those
who spend (contracts/balances.py). Amounts are nano-units (contracts/money.py), times Unix seconds.
Days and months are those of UTC, the same for every process and whoever asks.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

import msgspec

_DAY = 86_400


class Period(StrEnum):
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"
    """It never renews."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    amount: int
    period: Period


class KeyBudget(msgspec.Struct, frozen=True, array_like=True):
    """How it stands with one key's budget. `amount` None: it has none any more.

    `spent` is what usage since `since` has cost, `posted` what of it the source that asks has charged.
    """

    key: str
    amount: int | None
    period: Period
    since: int
    spent: int
    posted: int = 0


class SetBudget(msgspec.Struct, frozen=True, kw_only=True):
    """`budget` None takes it away. `new`: the key is, and has spent nothing."""

    key: str
    tenant: str
    user: str
    budget: Budget | None
    new: bool = False


class BudgetClient(Protocol):
    async def set_budget(self, wish: SetBudget) -> None:
        """Raises Unavailable when billing is away: then it is not known whether it was set."""


def begun(period: Period, now: float) -> int:
    """When the period that holds `now` has begun; 0 for one that never renews."""
    if period is Period.TOTAL:
        return 0
    if period is Period.DAY:
        return int(now // _DAY) * _DAY
    day = datetime.fromtimestamp(now, UTC)
    return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp())


def renews(period: Period, since: int) -> int | None:
    """When the period that has begun at `since` is over; None: never."""
    if period is Period.TOTAL:
        return None
    if period is Period.DAY:
        return since + _DAY
    month = datetime.fromtimestamp(since, UTC)
    year, number = (month.year + 1, 1) if month.month == 12 else (month.year, month.month + 1)
    return int(datetime(year, number, 1, tzinfo=UTC).timestamp())
