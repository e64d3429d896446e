"""Refuses what an operator has switched off, in his words: `routes` of the configuration.

It is in the chains of such routes only: others do not pass it.
"""

from collections.abc import Awaitable

from moonpool.contracts.manifest import Route
from moonpool.core.context import Context
from moonpool.core.errors import Unavailable
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response

CODE = "route_disabled"


class SwitchedOff:
    def applies(self, route: Route) -> bool:
        return not route.enabled

    def __call__(self, ctx: Context, request: Request, next: Handler) -> Awaitable[Response]:
        route: Route = ctx.route
        ctx.decide("switched off", "refuse", route.notice)
        refused = Unavailable(
            f"{route.method} {route.path} is switched off.",
            code=CODE,
            hint=route.notice or "The operators of this platform have done so; ask them.",
        )
        refused.should_retry = False  # it is for a person to say when it is back
        raise refused
