"""The web balancer: pages and assets. Least requests of two choices; all requests cost about the same."""

from collections.abc import Sequence
from random import Random

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.policies import eligible, two_choices


class WebBalancer:
    def __init__(self, random: Random) -> None:
        self._random = random

    def pick(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        """Raises Unavailable when there is none."""
        return two_choices(eligible(endpoints), _requests, self._random)


def _requests(endpoint: Endpoint) -> float:
    return endpoint.active / max(endpoint.weight, 1)
