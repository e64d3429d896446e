"""The API balancer: services. Peak-EWMA of two choices (Finagle's), with a penalty for failures.

Cost = latency estimate x (requests under way / weight + 1): what a request added now would probably wait.
The estimate jumps to a peak at once and decays over ten seconds; an endpoint that fails fast is charged for
it, or it would draw all traffic.
"""

from collections.abc import Sequence
from random import Random

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.policies import eligible, two_choices
from moonpool.core.clock import Clock

UNKNOWN_LATENCY = 1e-3
"""Seconds assumed of an endpoint that was not asked yet, so that load still counts there."""


class ApiBalancer:
    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random = random

    def pick(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        """Raises Unavailable when there is none."""
        candidates = eligible(endpoints)
        if len(candidates) == 1:
            return candidates[0]
        now = self._clock.monotonic()

        def cost(endpoint: Endpoint) -> float:
            expected = max(endpoint.latency(now), UNKNOWN_LATENCY) + endpoint.penalty(now)
            return expected * (endpoint.active / max(endpoint.weight, 1) + 1)

        return two_choices(candidates, cost, self._random)
