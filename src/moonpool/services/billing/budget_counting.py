"""What usage costs, counted against the budgets of the keys that asked.

A cost belongs to the period in which its usage event was made. What comes late, of a period that is over,
counts for nothing any more: what is kept is the newest period in which the key has spent something.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.contracts.budgets import begun
from moonpool.contracts.money import cost_of
from moonpool.contracts.usage import Bill, UsageEvent
from moonpool.services.billing import budget_store


async def count(connection: AsyncConnection, events: Sequence[UsageEvent], now: float, sequence: int) -> None:
    """Add what new usage costs to what its keys have spent, in the transaction that stores it."""
    rows = await budget_store.find(connection, (event.key for event in events if event.key))
    if not rows:
        return
    changed: dict[str, budget_store.Row] = {}
    posted: budget_store.Posted = {}
    for event in events:
        row = rows.get(event.key)
        if row is None or row.amount is None or row.tenant != event.tenant:
            continue
        since = begun(row.period, event.at)
        if since < row.since:
            continue
        if since > row.since:
            row.since, row.spent = since, 0
            posted = {place: amount for place, amount in posted.items() if place[1] != row.key}
        amount = cost_of(event)
        row.spent += amount
        changed[row.key] = row
        if isinstance(event.bill, Bill) and event.bill.source:
            place = event.bill.source, row.key
            posted[place] = posted.get(place, 0) + amount
    await budget_store.save(connection, changed.values(), sequence)
    await budget_store.add_posted(connection, posted, {key: row.since for key, row in changed.items()}, now)
