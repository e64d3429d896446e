"""THE ordered list of filters, outermost first, with the reason why each stands where it stands.

It is built once for every route: a filter that has nothing to do for a route is not in that route's
chain, and costs it nothing. Whatever a filter holds it gives back when the answer's body ends.
"""

from collections.abc import Sequence
from typing import Protocol

from moonpool.contracts.manifest import Route
from moonpool.core.context import Context
from moonpool.core.handler import Handler, chain
from moonpool.core.message import Request, Response


class RouteFilter(Protocol):
    """A filter that knows which routes it is for."""

    def applies(self, route: Route) -> bool: ...

    async def __call__(self, ctx: Context, request: Request, next: Handler, /) -> Response: ...


def ordered(
    *,
    tracing: RouteFilter,
    health: RouteFilter,
    authentication: RouteFilter,
    requests: RouteFilter,
    validation: RouteFilter,
    idempotency: RouteFilter,
    tokens: RouteFilter,
    metering: RouteFilter,
) -> list[RouteFilter]:
    """The layer. A new filter is a new line here, with its reason."""
    return [
        # Outermost: whatever happens below, even a refusal, has an id, a trace, a record, and is
        # answered with an error object. Nothing above could be explained.
        tracing,
        # Before anything that costs: a gateway that drains or is overloaded says so for the price of a
        # comparison. It needs the route's priority only, not who asks.
        health,
        # Who asks must be known before anything is looked at in the tenant's name; and a caller without
        # a key must not make us parse ten megabytes of JSON.
        authentication,
        # Who asks too often is refused before megabytes of JSON are parsed for him. Places are held from
        # here to the end of the body.
        requests,
        # The one parse that everything below shares. Above whatever counts, caches or stores, so that a
        # malformed request is never charged and never reaches a service.
        validation,
        # Above all that costs tokens or money: what was done once is answered as it was then, and is neither
        # limited by tokens nor metered again.
        idempotency,
        # Around metering: it settles on what metering has counted.
        tokens,
        # Around all attempts of a request and inside everything that may refuse it: one logical request
        # is one usage event, however often it is tried below.
        metering,
    ]


def build(filters: Sequence[RouteFilter], route: Route, dispatch: Handler) -> Handler:
    """The chain of one route."""
    return chain([layer for layer in filters if layer.applies(route)], dispatch)
