"""The dead letter queue's filter: keeps what could not be answered, and what is to be answered later.

`Prefer: respond-async` (RFC 7240 §4.1): 202 at once, and the answer at /v1/deferred/ID when it is there.
Stands around the fallback: only what ended degraded has failed for good.
"""

import msgspec

from moonpool.contracts.manifest import Letters, Route
from moonpool.core.context import Context
from moonpool.core.errors import PlatformError
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.middleware.deferring import Deferring
from moonpool.middleware.fallback import cause_of
from moonpool.middleware.prefer import preferences

HEADER = b"x-moonpool-dead-letter"
"""On an answer whose request was kept: the id, under which it is found after a replay."""
PLACE = "/v1/deferred/"
ASKED = "asked for later"


class Deferred(msgspec.Struct, frozen=True, kw_only=True):
    """What a client is told of a request that is done later. `created_at` is Unix seconds."""

    id: str
    object: str = "deferred"
    status: str
    attempts: int = 0
    created_at: float


class DeadLetter:
    def __init__(self, deferring: Deferring) -> None:
        self._deferring = deferring

    def applies(self, route: Route) -> bool:
        return route.letters is not Letters.NO

    async def __call__(self, ctx: Context, request: Request, next: Handler) -> Response:
        wish = request.headers.get(b"prefer")
        if wish is not None and isinstance(request.body, bytes) and "respond-async" in preferences(wish):
            return await self._later(ctx, request)
        try:
            response = await next(ctx, request)
        except PlatformError as error:
            if ctx.route.letters is Letters.FAILED:
                await self._deferring.capture(ctx, request, cause_of(error))
            raise
        if ctx.fallback == "degraded" and ctx.route.letters is Letters.FAILED:
            id = await self._deferring.capture(ctx, request, _cause(ctx))
            if id is not None:
                response.headers.append((HEADER, id.encode()))
        return response

    async def _later(self, ctx: Context, request: Request) -> Response:
        id = await self._deferring.defer(ctx, request, reason=ASKED)
        return accepted(Deferred(id=id, status="waiting", created_at=ctx.clock.time()))


def accepted(deferred: Deferred) -> Response:
    """202: where to look, and when."""
    headers = [
        (b"content-type", b"application/json"),
        (b"location", PLACE.encode() + deferred.id.encode()),
        (b"preference-applied", b"respond-async"),
        (b"retry-after", b"1"),
        (b"cache-control", b"no-store"),
    ]
    return Response(202, headers, msgspec.json.encode(deferred))


def _cause(ctx: Context) -> str:
    """The word that the fallback gave."""
    for name, _, reason, _ in reversed(ctx.decisions):
        if name == "fallback":
            return reason.partition(":")[0]
    return "degraded"
