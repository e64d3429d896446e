"""billing over HTTP: thin handlers around BillingService."""

from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.types import ControllerRouterHandler

from moonpool.asgi.caller import Caller
from moonpool.core.errors import BadRequest, PermissionDenied
from moonpool.core.principal import Principal
from moonpool.services.billing.schema import EventView, Group, UsageView
from moonpool.services.billing.service import BillingService

CallerOf = NamedDependency[Caller]
Limit = Annotated[int, QueryParameter(ge=0, le=100)]
Moment = Annotated[float | None, QueryParameter(ge=0, le=253_402_300_800)]


def handlers(service: BillingService) -> list[ControllerRouterHandler]:
    @get("/api/billing/usage", summary="Totals and recent events")
    async def usage(
        caller: CallerOf,
        group_by: FromQuery[str] = "day,model",
        after: Moment = None,
        before: Moment = None,
        limit: Limit = 20,
    ) -> UsageView:
        return await service.usage(
            _person(caller), group_by=_groups(group_by), after=after, before=before, limit=limit
        )

    @get("/api/billing/usage/{request_id:str}", summary="What one request consumed")
    async def event(caller: CallerOf, request_id: FromPath[str]) -> EventView:
        return await service.event(_person(caller), request_id)

    return [usage, event]


def _groups(text: str) -> list[Group]:
    """`day,model` as the query has it."""
    try:
        return [Group(name) for name in text.split(",")]
    except ValueError:
        raise BadRequest(
            f"usage cannot be grouped by '{text}'",
            code="invalid_value",
            param="group_by",
            hint=f"One or more of {', '.join(Group)}, with commas between.",
        ) from None


def _person(caller: Caller) -> Principal:
    if not caller.principal.user:
        raise PermissionDenied("only a user has usage; this call is made in nobody's name")
    return caller.principal
