"""The domain of billing, as callers see it: what was consumed, and by whom."""

from collections.abc import Sequence

from moonpool.core.clock import Clock
from moonpool.core.errors import BadRequest, NotFound
from moonpool.core.principal import RANK, Principal, Role
from moonpool.ports.database import Database
from moonpool.services.billing import store
from moonpool.services.billing.schema import EventView, Group, UsageView, event_view

DEFAULT_SPAN = 30 * 86_400.0
"""Seconds that a report reaches back when nothing else is asked for."""
MOST_GROUPS = 1000


class BillingService:
    def __init__(self, database: Database, clock: Clock, currency: str = "USD") -> None:
        self._database = database
        self._clock = clock
        self._currency = currency

    async def usage(
        self,
        caller: Principal,
        *,
        group_by: Sequence[Group],
        after: float | None,
        before: float | None,
        limit: int,
    ) -> UsageView:
        """Raises BadRequest when the time is empty or the report would have too many groups."""
        end = self._clock.time() + 1.0 if before is None else before
        start = max(0.0, end - DEFAULT_SPAN) if after is None else after
        if start >= end:
            raise BadRequest("`after` is not before `before`", code="invalid_value", param="after")
        groups = tuple(dict.fromkeys(group_by))
        selection = store.Selection(tenant=caller.tenant, user=whose(caller), after=start, before=end)
        async with self._database.snapshot() as connection:
            totals = await store.totals(connection, selection)
            data = await store.group_totals(connection, selection, groups, MOST_GROUPS + 1)
            recent = await store.recent(connection, selection, limit + 1)
        if len(data) > MOST_GROUPS:
            raise BadRequest(
                f"the report has more than {MOST_GROUPS} rows",
                code="too_many_groups",
                param="group_by",
                hint="Ask for a shorter time or fewer groups.",
            )
        return UsageView(
            currency=self._currency,
            after=start,
            before=end,
            group_by=groups,
            totals=totals,
            data=data,
            recent=[event_view(event) for event in recent[:limit]],
            has_more=len(recent) > limit,
        )

    async def event(self, caller: Principal, request_id: str) -> EventView:
        """Raises NotFound for a request that consumed nothing, or was somebody else's."""
        async with self._database.snapshot() as connection:
            found = await store.find(connection, caller.tenant, whose(caller), request_id)
        if found is None:
            raise NotFound(
                f"no usage is known of the request '{request_id}'",
                code="usage_not_found",
                param="request_id",
                hint="Usage is counted a moment after a request has ended.",
            )
        return event_view(found)


def whose(caller: Principal) -> str | None:
    """The user whose events the caller sees; None: everybody's in his organisation."""
    administers = RANK[caller.role] >= RANK[Role.ADMIN] and caller.may("admin")
    return None if administers else caller.user
