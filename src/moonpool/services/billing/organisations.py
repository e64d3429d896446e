"""Whose books there are: organisations live in auth, billing knows those that it has heard of.

A caller's own is vouched for by the signed context. Another one has to have used the platform or to have
books: a credit to a slip of the pen would be money that nobody finds again.
"""

from sqlalchemy import exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.core.errors import NotFound
from moonpool.core.principal import Principal
from moonpool.services.billing.tables import key_budgets, ledger_entries, usage_events

_TRACES = (ledger_entries, usage_events, key_budgets)
"""Each has an index that begins with `tenant`."""


async def check(connection: AsyncConnection, caller: Principal, organisation: str) -> None:
    """Raises NotFound for one that was never heard of."""
    if organisation == caller.tenant:
        return
    traces = (exists().where(table.c.tenant == organisation) for table in _TRACES)
    if not (await connection.execute(select(or_(*traces)))).scalar_one():
        raise NotFound(
            f"there is no organisation {organisation[:80]!r} with usage or books",
            code="organisation_not_found",
            param="organisation",
            hint="Leave it out for your own; another one is known from its first request on.",
        )
