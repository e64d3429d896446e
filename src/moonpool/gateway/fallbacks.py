"""What an operator sees of fallbacks: the causes that recur, the most frequent of late first."""

from urllib.parse import parse_qs

import msgspec

from moonpool.contracts.manifest import Access, BodyKind, Route
from moonpool.core.context import Context
from moonpool.core.errors import BadRequest
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.middleware.causes import Causes, Ranked

MOST = 1000


class CausePage(msgspec.Struct, frozen=True, kw_only=True):
    """Of this gateway's process, since its start. `half_life` is that of `recent`, in seconds."""

    object: str = "list"
    data: list[Ranked]
    half_life: float


class FallbackAdministration:
    def __init__(self, causes: Causes, half_life: float) -> None:
        self._causes = causes
        self._half_life = half_life

    def routes(self) -> list[tuple[Route, Handler]]:
        route = Route(
            method="GET",
            path="/admin/fallbacks",
            access=Access.ADMIN,
            scope="admin",
            body=BodyKind.NONE,
            priority=0,
            summary="Why something else than the real answer was given: top causes",
        )
        return [(route, self.top)]

    async def top(self, ctx: Context, request: Request) -> Response:
        """Query: `kind` (stale, service, degraded, dead_letter …), `service`, `limit`."""
        query = {name: values[-1] for name, values in parse_qs(request.query).items()}
        limit = query.get("limit", "20")
        if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and 1 <= int(limit) <= MOST):
            raise BadRequest(f"limit is a number from 1 to {MOST}", param="limit", code="invalid_value")
        data = self._causes.top(int(limit), kind=query.get("kind", ""), service=query.get("service", ""))
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        return Response(200, headers, msgspec.json.encode(CausePage(data=data, half_life=self._half_life)))
