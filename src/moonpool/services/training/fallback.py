"""While training is down: a job is accepted and kept, and handed over when the service is back; what was
known of jobs is read-only."""

import msgspec

from moonpool.contracts.fallback import Fallback, FallbackParts, ReadOnly
from moonpool.core.context import Context
from moonpool.core.errors import PlatformError
from moonpool.core.message import Request, Response
from moonpool.openai.parse import parse
from moonpool.services.training.schema import NewJob

_JOBS = "/v1/fine_tuning/jobs"


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """Not a job yet: `id` names what GET /v1/deferred/ID tells of it, and later the job itself."""

    id: str
    object: str = "deferred"
    status: str = "queued"
    message: str = "The training service is away; the job will be handed over when it is back."


def create(parts: FallbackParts) -> Fallback:
    return _Training(parts, "jobs are")


class _Training(ReadOnly):
    async def answer(self, ctx: Context, request: Request, cause: PlatformError) -> Response | None:
        if (request.method, ctx.route.path) != ("POST", _JOBS):
            return await super().answer(ctx, request, cause)
        _check(request)
        id = await self.parts.later.defer(ctx, request, reason="accepted while training was away")
        headers = [
            (b"content-type", b"application/json"),
            (b"location", f"/v1/deferred/{id}".encode()),
            (b"preference-applied", b"respond-async"),
        ]
        return Response(202, headers, msgspec.json.encode(Accepted(id=id)))


def _check(request: Request) -> None:
    """What the service would refuse at once is not kept for later. Raises BadRequest."""
    assert isinstance(request.body, bytes)
    parse(NewJob, request.body, {})
