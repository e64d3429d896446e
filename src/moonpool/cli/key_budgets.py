"""What commands show of keys' budgets: auth knows what was granted, billing what is left."""

from collections.abc import Sequence
from datetime import UTC

from moonpool.cli.answers import Budget, Key, KeyBudgets
from moonpool.cli.api import Api, CommandFailed
from moonpool.cli.moments import spell_moment

BUDGETS = "/api/billing/budgets"
PERIODS = ("day", "month", "total")
_PER = {"day": "a day", "month": "a month", "total": "in all"}


def add_spending(api: Api, keys: Sequence[Key]) -> None:
    """Fill in what billing says. Without billing the budgets stay as they were granted."""
    wanted = {key.id: key.budget for key in keys if key.budget is not None and key.status == "active"}
    after = None
    try:
        while wanted:
            page = api.get(BUDGETS, KeyBudgets, limit=100, after=after)
            for told in page.data:
                budget = wanted.pop(told.key, None)
                if budget is not None:
                    budget.spent, budget.left = told.spent, told.left
                    budget.currency, budget.renews_at = told.currency, told.renews_at
            if not page.has_more or not page.data:
                return
            after = page.data[-1].key
    except CommandFailed:
        return


def spell_budget(budget: Budget | None) -> str:
    """ "5.00 a month"."""
    return "-" if budget is None else f"{budget.amount} {_PER.get(budget.period, budget.period)}"


def spell_left(budget: Budget | None) -> str:
    """ "1.20, renews 2026-12-01"."""
    if budget is None:
        return "-"
    if budget.left is None:
        return "?"
    if budget.renews_at is None:
        return budget.left
    return f"{budget.left}, renews {spell_moment(budget.renews_at, '%Y-%m-%d', zone=UTC)}"
