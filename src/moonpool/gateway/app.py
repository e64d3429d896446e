"""The gateway as an application of the edge: one request in, one response out."""

from collections.abc import Awaitable, Callable, Sequence

from msgspec import structs

from moonpool.contracts.manifest import Access, BalancerKind, BodyKind, Manifest, Route
from moonpool.core.clock import Clock
from moonpool.core.context import Context
from moonpool.core.deadline import Deadline
from moonpool.core.errors import MethodNotAllowed, NotFound
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.gateway.routes import Entry, RouteTable
from moonpool.http.limits import BodyPolicy
from moonpool.middleware.pipeline import RouteFilter, build

NOWHERE = Route(
    method="*",
    path="(no route)",
    access=Access.PUBLIC,
    priority=2,
    body=BodyKind.NONE,
    balancer=BalancerKind.NONE,
)
"""What a request that matches no route is measured as: unknown paths must not make new series."""

Upstream = Callable[[str, Route], Handler]
"""The handler that ends a route's chain, for a service's name."""


class Gateway:
    """Immutable but for what its filters hold; replaced as a whole when manifests change."""

    def __init__(
        self,
        *,
        manifests: Sequence[Manifest],
        filters: Sequence[RouteFilter],
        upstream: Upstream,
        own: Sequence[tuple[Route, Handler]],
        clock: Clock,
    ) -> None:
        self._clock = clock
        entries = []
        for declared, handler in own:
            route = structs.replace(declared, balancer=BalancerKind.NONE)
            entries.append(Entry("", route, build(filters, route, handler)))
        for manifest in manifests:
            for route in manifest.routes:
                handler = build(filters, route, upstream(manifest.service, route))
                entries.append(Entry(manifest.service, route, handler))
        self._table = RouteTable(entries)
        self._refuse = build(filters, NOWHERE, _refuse)

    def handle(self, request: Request) -> Awaitable[Response]:
        ctx = Context(self._clock)
        entry, parameters, allowed = request.matched or self._table.match(request.method, request.path)
        if entry is None:
            ctx.route = NOWHERE
            ctx.allowed = allowed
            return self._refuse(ctx, request)
        route = entry.route
        ctx.service = entry.service
        ctx.route = route
        if parameters:
            ctx.parameters = parameters
        ctx.deadline = Deadline(ctx.started + route.timeouts.total)
        return entry.handler(ctx, request)

    def body_policy(self, request: Request) -> BodyPolicy:
        """How the edge takes the body, decided when the head is there."""
        match = request.matched = self._table.match(request.method, request.path)
        return _NO_BODY if match.entry is None else match.entry.body_policy


_NO_BODY = BodyPolicy(64 * 1024, False)


async def _refuse(ctx: Context, request: Request) -> Response:
    if ctx.allowed:
        raise MethodNotAllowed(f"{request.method} is not allowed at {request.path}", allow=ctx.allowed)
    raise NotFound(
        f"Unknown request URL: {request.method} {request.path}",
        code="unknown_url",
        hint="The OpenAI surface begins at /v1; /openapi.json lists every path.",
    )
