"""The training service's HTTP surface: /v1/fine_tuning/jobs."""

from typing import Annotated

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler

from moonpool.asgi.app import AnyRequest
from moonpool.asgi.caller import Caller
from moonpool.asgi.once import asked
from moonpool.services.training.schema import EventPage, Job, JobPage, NewJob
from moonpool.services.training.service import Training

CallerOf = NamedDependency[Caller]
Id = FromPath[str]
After = FromQuery[str | None]
Limit = Annotated[int, QueryParameter(ge=1, le=100)]
_JOBS = "/v1/fine_tuning/jobs"
_ONE = _JOBS + "/{job_id:str}"


def routes(training: Training) -> list[ControllerRouterHandler]:
    @post(_JOBS, status_code=200, summary="Create a fine-tuning job")
    async def create(caller: CallerOf, request: AnyRequest, data: JSONBody[NewJob]) -> Job:
        return await training.create(caller.principal, data, asked(caller, await request.body()))

    @get(_JOBS, summary="List fine-tuning jobs")
    async def index(caller: CallerOf, limit: Limit = 20, after: After = None) -> JobPage:
        data, more = await training.store.page(caller.principal.tenant, limit=limit, after=after)
        return JobPage(data=data, has_more=more)

    @get(_ONE, summary="One fine-tuning job")
    async def show(caller: CallerOf, job_id: Id) -> Job:
        return await training.store.find(caller.principal.tenant, job_id)

    @post(_ONE + "/cancel", status_code=200, summary="Cancel a fine-tuning job")
    async def cancel(caller: CallerOf, job_id: Id) -> Job:
        return await training.cancel(caller.principal, job_id)

    @get(_ONE + "/events", summary="What happened to a fine-tuning job")
    async def events(caller: CallerOf, job_id: Id, limit: Limit = 20, after: After = None) -> EventPage:
        data, more = await training.store.events(caller.principal.tenant, job_id, limit=limit, after=after)
        return EventPage(data=data, has_more=more)

    return [create, index, show, cancel, events]
