"""The health gate: refuses early and cheaply what this process should not begin.

Draining: 503 at once, so that clients go to another gateway. Overloaded: the less important is shed
first, long before the process is in trouble (priority 2 at 80 % of the bound, 1 at 95 %, 0 at 100 %).
"""

import math
from collections.abc import Awaitable, Callable

from moonpool.contracts.manifest import Route
from moonpool.core.context import Context
from moonpool.core.decisions import Flag
from moonpool.core.errors import Overloaded, Unavailable
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response

SHARES = (1.0, 0.95, 0.8)
"""Of the bound, by priority."""


class HealthGate:
    """`active` tells the requests under way in this process, answers' bodies included."""

    def __init__(self, active: Callable[[], int], bound: int) -> None:
        self._active = active
        self.update(bound)
        self.draining = False

    def update(self, bound: int) -> None:
        """For requests that begin from now on."""
        self._bounds = tuple(math.ceil(bound * share) for share in SHARES)
        self._lowest = self._bounds[-1]

    def applies(self, route: Route) -> bool:
        return not route.quiet

    def __call__(self, ctx: Context, request: Request, next: Handler) -> Awaitable[Response]:
        if self.draining:
            ctx.decide("health", "refuse", "draining")
            raise Unavailable("this gateway is shutting down", code="draining", retry_after=1.0)
        if self._active() > self._lowest:
            self._shed(ctx)
        return next(ctx, request)

    def _shed(self, ctx: Context) -> None:
        """Raises Overloaded when it is this request's turn."""
        priority = min(ctx.route.priority, len(self._bounds) - 1)
        if self._active() > self._bounds[priority]:
            ctx.flags.append(Flag.OVERFLOW)
            ctx.decide("health", "shed", f"{self._active()} requests under way, priority {priority}")
            raise Overloaded("the gateway is overloaded", retry_after=1.0)
