"""THE ordered list of filters, outermost first, with the reason why each stands where it stands.

It is built once for every route: a filter that has nothing to do for a route is not in that route's
chain, and costs it nothing. Whatever a filter holds it gives back when the answer's body ends.
"""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from moonpool.contracts.manifest import Route
from moonpool.core.context import Context
from moonpool.core.handler import Handler, chain
from moonpool.core.message import Request, Response


class RouteFilter(Protocol):
    """A filter that knows which routes it is for."""

    def applies(self, route: Route) -> bool: ...

    def __call__(self, ctx: Context, request: Request, next: Handler, /) -> Awaitable[Response]: ...


def ordered(
    *,
    tracing: RouteFilter,
    health: RouteFilter,
    authentication: RouteFilter,
    switched_off: RouteFilter,
    router: RouteFilter,
    requests: RouteFilter,
    validation: RouteFilter,
    resolution: RouteFilter,
    idempotency: RouteFilter,
    cache: RouteFilter,
    tokens: RouteFilter,
    money: RouteFilter,
    dead_letter: RouteFilter,
    fallback: RouteFilter,
    metering: RouteFilter,
    mirror: RouteFilter,
    failover: RouteFilter,
    hedge: RouteFilter,
    retry: RouteFilter,
) -> list[RouteFilter]:
    """The layer. A new filter is a new line here, with its reason.

    The chain ends in the upstream of the route's service or model (upstream.py, inference.py): the balancer
    picks among those whose circuit breaker is closed, and one attempt is made (attempt.py).
    """
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
        # Whoever may call it is told why it is off, nobody else. Above the router: it is so for all releases.
        switched_off,
        # The upgrade layer: from here on a request belongs to one release of its service, and all that
        # follows may be another for another release. It needs to know who asks, for the buckets.
        router,
        # Who asks too often is refused before megabytes of JSON are parsed for him. Places are held from
        # here to the end of the body.
        requests,
        # The one parse that everything below shares. Above whatever counts, caches or stores, so that a
        # malformed request is never charged and never reaches a service.
        validation,
        # The alias means the same for everything below; an unknown one is refused before tokens are reserved.
        resolution,
        # Above all that costs tokens or money: what was done once is answered as it was then, and is neither
        # limited by tokens nor metered again.
        idempotency,
        # A fresh answer ends here, and costs no tokens. A stale one is left on the context for the fallback.
        cache,
        # Around metering: it settles on what metering has counted.
        tokens,
        # Below the cache, whose answers are free. Around metering: it gives the price that metering writes
        # down, and settles on what metering has counted.
        money,
        # Around the fallback: it keeps what only got a degraded answer, or none.
        dead_letter,
        # Around metering, or an answer that stands in for another would be billed. Inside the cache, or a
        # degraded answer would be kept.
        fallback,
        # Around all attempts of a request and inside everything that may refuse it: one logical request
        # is one usage event, however often it is tried below.
        metering,
        # Below all that counts, limits or keeps: a copy for a release in the shadow is none of the client's.
        mirror,
        # From tier to tier (release, target, other model), when all of one have failed or are open.
        failover,
        # Around retry: each of the two attempts may be repeated, and both draw from one budget.
        hedge,
        # Within a tier: another instance, or the same one after a pause, as long as the budget lasts.
        retry,
    ]


ROUTED = 5
"""Place of the first filter below the version router: where the chain of a release with own rules begins."""
REPLAYED = (
    "tracing",
    "switched_off",
    "validation",
    "resolution",
    "tokens",
    "money",
    "metering",
    "failover",
    "hedge",
    "retry",
)
"""What a dead letter passes when it is sent again: nothing that is about a client's connection, and nothing
that would answer in the service's place."""


def build(filters: Sequence[RouteFilter], route: Route, dispatch: Handler) -> Handler:
    """The chain of one route."""
    return chain([layer for layer in filters if layer.applies(route)], dispatch)
