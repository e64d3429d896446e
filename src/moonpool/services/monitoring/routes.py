"""The monitoring service's HTTP surface: /api/monitoring and /admin/requests."""

from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.types import ControllerRouterHandler

from moonpool.asgi.caller import Caller
from moonpool.contracts.names import END
from moonpool.contracts.requests import RequestRecord
from moonpool.core.clock import Clock
from moonpool.core.decisions import Flag
from moonpool.core.errors import PermissionDenied
from moonpool.core.principal import RANK, Role
from moonpool.services.monitoring.health import HealthView
from moonpool.services.monitoring.schema import Filters, PlatformHealth, RequestPage, Summary
from moonpool.services.monitoring.store import Store
from moonpool.services.monitoring.summary import summarise

CallerOf = NamedDependency[Caller]
Limit = Annotated[int, QueryParameter(ge=1, le=500)]
Status = Annotated[str | None, QueryParameter(pattern=r"^([1-5]xx|[1-5][0-9][0-9])" + END)]
Minutes = Annotated[float, QueryParameter(gt=0, le=1440)]
Text = FromQuery[str | None]


def routes(store: Store, health: HealthView, clock: Clock) -> list[ControllerRouterHandler]:
    @get("/api/monitoring/health", summary="The health of every instance")
    async def show_health(caller: CallerOf) -> PlatformHealth:
        _operator(caller)
        return await health.look()

    @get("/api/monitoring/summary", summary="The last minutes in figures")
    async def show_summary(caller: CallerOf, minutes: Minutes = 5.0) -> Summary:
        measures = await store.measures(_operator(caller), since=clock.time() - minutes * 60.0)
        return summarise(measures, minutes=minutes)

    @get("/api/monitoring/requests", summary="Recent requests")
    async def list_requests(
        caller: CallerOf,
        limit: Limit = 50,
        after: Text = None,
        status: Status = None,
        flag: FromQuery[Flag | None] = None,
        route: Text = None,
        user: Text = None,
    ) -> RequestPage:
        filters = Filters(status=status, flag=flag, route=route, user=user)
        data, more = await store.recent(_operator(caller), filters, limit=limit, after=after)
        return RequestPage(data=data, has_more=more)

    @get("/admin/requests/{request_id:str}", summary="One request with decisions and attempts")
    async def show_request(caller: CallerOf, request_id: FromPath[str]) -> RequestRecord:
        return await store.find(_operator(caller), request_id)

    return [show_health, show_summary, list_requests, show_request]


def _operator(caller: Caller) -> str:
    """The tenant whose requests the caller may see. The gateway has checked too: this is what others
    than it meet."""
    if RANK[caller.principal.role] < RANK[Role.ADMIN]:
        raise PermissionDenied("Only admins see what others do.")
    return caller.principal.tenant
