"""Budgets of keys: what auth has granted is kept here, and told with what was spent of it."""

from moonpool.contracts.budgets import Period, SetBudget, begun, renews
from moonpool.contracts.config import BillingConfig
from moonpool.contracts.money import spell
from moonpool.core.clock import Clock
from moonpool.core.principal import Principal
from moonpool.ports.database import Database
from moonpool.services.billing import budget_store, ledger_store
from moonpool.services.billing.posting import Posting
from moonpool.services.billing.schema import BudgetList, BudgetView
from moonpool.services.billing.service import whose


class Budgets:
    def __init__(self, database: Database, clock: Clock, config: BillingConfig, posting: Posting) -> None:
        self._database = database
        self._clock = clock
        self._currency = config.currency
        self._posting = posting

    async def set(self, wish: SetBudget) -> None:
        """From now on, and in this period with what the key has spent in it already."""
        period = Period.TOTAL if wish.budget is None else wish.budget.period
        since = begun(period, self._clock.time())
        async with self._database.transaction() as connection:
            sequence = await ledger_store.begin(connection)
            spent = 0
            if wish.budget is not None and not wish.new:
                spent = await budget_store.spent_since(connection, wish.tenant, wish.key, since)
            row = budget_store.Row(
                key=wish.key,
                tenant=wish.tenant,
                user=wish.user,
                amount=None if wish.budget is None else wish.budget.amount,
                period=period,
                since=since,
                spent=spent,
            )
            await budget_store.save(connection, [row], sequence)
        self._posting.tell()

    async def list(self, caller: Principal, *, after: str | None, limit: int) -> BudgetList:
        """One's own keys', or all of the organisation for admins."""
        async with self._database.snapshot() as connection:
            rows = await budget_store.page(connection, caller.tenant, whose(caller), after, limit + 1)
        return BudgetList(data=[self._view(row) for row in rows[:limit]], has_more=len(rows) > limit)

    def _view(self, row: budget_store.Row) -> BudgetView:
        now = begun(row.period, self._clock.time())
        spent = row.spent if row.since >= now else 0
        amount = row.amount or 0
        return BudgetView(
            key=row.key,
            user=row.user,
            currency=self._currency,
            amount=spell(amount),
            period=row.period,
            spent=spell(spent),
            left=spell(max(amount - spent, 0)),
            renews_at=renews(row.period, max(row.since, now)),
            enforced=self._posting.terms.enforce,
        )
