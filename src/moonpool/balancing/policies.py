"""Power of two choices: compare two random candidates by a cost, take the lower.

Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (1996): nearly as good as looking
at all, without the herd that follows a single "best".

Weights are shares: they bias the draw, and a cost divides its load by them, nothing else. Endpoints that
are equally well off then get requests in proportion to their weights, idle or busy.
"""

from collections.abc import Callable, Sequence
from random import Random

from moonpool.balancing.endpoint import Endpoint
from moonpool.core.errors import Unavailable

Cost = Callable[[Endpoint], float]


def eligible(endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    """Those that are ready; all of them when none is (better a try than a certain refusal).

    Raises Unavailable when there is no endpoint at all.
    """
    if not endpoints:
        raise Unavailable("no instance of this service is running", code="no_instance", retry_after=1.0)
    for endpoint in endpoints:
        if not endpoint.ready:
            return [e for e in endpoints if e.ready] or endpoints
    return endpoints


def draw(weights: Sequence[int], random: Random) -> int:
    """An index (of a sequence that is not empty), as often as its weight says; all zero are all alike."""
    count = len(weights)
    if weights.count(weights[0]) == count:
        return int(random.random() * count)  # randrange takes six times as long
    return random.choices(range(count), weights)[0]


def two_choices(endpoints: Sequence[Endpoint], cost: Cost, random: Random) -> Endpoint:
    """One of `endpoints` (not empty); of two that cost the same the one that was drawn first, hence by
    weight."""
    count = len(endpoints)
    if count == 1:
        return endpoints[0]
    first, second = _draw_two(endpoints, random)
    return second if cost(second) < cost(first) else first


def _draw_two(endpoints: Sequence[Endpoint], random: Random) -> tuple[Endpoint, Endpoint]:
    weights = [endpoint.weight for endpoint in endpoints]
    total = sum(weights)
    if total == 0 or weights.count(weights[0]) == len(weights):
        i = random.randrange(len(endpoints))
        j = random.randrange(len(endpoints) - 1)
        return endpoints[i], endpoints[j + (j >= i)]
    first = random.choices(endpoints, weights)[0]
    rest = [endpoint for endpoint in endpoints if endpoint is not first and endpoint.weight > 0]
    if not rest:
        return first, first
    return first, random.choices(rest, [endpoint.weight for endpoint in rest])[0]
