"""The time between an instance's end and the next one's start: waited through, as long as it is a restart.

    no instance is ready ──► one is, within the patience ──► it gets the request
                         └─► none is: 503, and whoever stands in for the service answers

Without it a request would lie in the socket of a process that may never come. The patience is counted from
when the last instance was lost, so that a service which stays away is waited for once, not by each request.
"""

import asyncio
from collections.abc import Mapping

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.models import INFERENCE
from moonpool.balancing.pools import Pools
from moonpool.contracts.resilience import RestartPolicy
from moonpool.core.clock import Clock
from moonpool.core.context import Context
from moonpool.core.decisions import Flag
from moonpool.core.errors import Unavailable

RETRY_AFTER = 5.0
"""Seconds."""


class Restarts:
    """Of all services; touched in the event loop only."""

    def __init__(self, policy: RestartPolicy, pools: Pools, clock: Clock) -> None:
        self._policy = policy
        self._pools = pools
        self._clock = clock
        self._lost: Mapping[str, float] = {}
        self._changed = asyncio.Event()
        pools.on_update(self._update)

    def update(self, policy: RestartPolicy) -> None:
        """For requests that begin to wait from now on."""
        self._policy = policy

    def _update(self) -> None:
        now = self._clock.monotonic()
        self._lost = {
            service: self._lost.get(service, now)
            for service in self._pools.services()
            if not self._ready(service)
        }
        self._changed.set()
        self._changed = asyncio.Event()

    async def instead(self, ctx: Context, service: str, endpoint: Endpoint) -> Endpoint:
        """A ready instance in the place of `endpoint`, which is not; of its release, if there is one.

        Raises Unavailable when the patience, or the request's time, is over first.
        """
        ready = self._ready(service)
        if not ready:
            try:
                async with asyncio.timeout(max(0.0, self._left(ctx, service))):
                    while not ready:
                        await self._changed.wait()
                        ready = self._ready(service)
            except TimeoutError:
                ctx.flags.append(Flag.NO_HEALTHY_UPSTREAM)
                raise Unavailable(
                    f"no instance of {service} is ready", code="no_instance", retry_after=RETRY_AFTER
                ) from None
        chosen = next((one for one in ready if one.release == endpoint.release), ready[0])
        ctx.release = chosen.release
        ctx.decide("balancer", chosen.instance, "as soon as it was ready")
        return chosen

    def _left(self, ctx: Context, service: str) -> float:
        policy = self._policy
        patience = policy.model_patience if service == INFERENCE else policy.service_patience
        now = self._clock.monotonic()
        left = self._lost.get(service, now) + patience - now
        return left if ctx.deadline is None else min(left, ctx.deadline.remaining(now))

    def _ready(self, service: str) -> list[Endpoint]:
        there = self._pools.endpoints(service)
        return [endpoint for endpoint in there if endpoint.ready and endpoint.internal]
