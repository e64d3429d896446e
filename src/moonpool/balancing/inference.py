"""The inference balancer: which instance answers a prompt soonest without slowing the others.

    score = predicted seconds to the first token        (queued + own uncached prompt tokens) / prefill rate
          + decode load ahead                            answer tokens still owed / DECODE_RATE

Load (queued and owed tokens) is divided by weight. The lowest score wins; those within MARGIN of it are as
good, since no prediction is better than that, and among them the weights draw: idle targets of weight 1 and
3 get a quarter and three quarters. An endpoint that was not measured yet is taken to be as fast as the
fastest of the others, so that it is tried, and then measured.

An instance that has at least half of the prompt in its cache is preferred, unless it is so much busier
than the idlest (by more than 32 requests and 1.1 times: SGLang's bound) that affinity would cost more
than it saves. Unequal weights are somebody's word on who shall get how much, and stand above a cached
prompt. One pick in a hundred explores, so that a measured rate cannot freeze an old truth.
"""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.policies import draw, eligible
from moonpool.balancing.prefix import PrefixIndex, blocks
from moonpool.core.clock import Clock
from moonpool.core.errors import Overloaded

MATCH_THRESHOLD = 0.5
IMBALANCE_ABSOLUTE = 32
IMBALANCE_RELATIVE = 1.1
EXPLORATION = 0.01
MARGIN = 1.25
MARGIN_SECONDS = 0.005
"""Scores up to this many times the lowest, or this much above it, count as equal to it."""
DEFAULT_PREFILL_RATE = 500.0
"""Prompt tokens a second assumed as long as nothing was measured anywhere."""
DECODE_RATE = 100.0
"""Answer tokens a second that turn owed tokens into seconds; only the ratio to the prefill part counts."""
BYTES_PER_TOKEN = 4
SATURATION = 256
"""Requests under way on one of our own instances above which it is saturated: priority 0 may always go on, 1
up to this, 2 up to half of it. How much others' endpoints bear they tell themselves, by 429."""


class Prompt(NamedTuple):
    """What the balancer looks at. `text` is the prompt from its beginning; `answer` the most tokens of
    the answer; `priority` 0 is shed last."""

    text: bytes
    answer: int = 256
    priority: int = 1

    @property
    def tokens(self) -> int:
        return len(self.text) // BYTES_PER_TOKEN + 1


class Choice(NamedTuple):
    """`place` is where the endpoint stands among those that were given."""

    endpoint: Endpoint
    reason: str
    place: int


class _Options(NamedTuple):
    """Columns. `capacities` are the weights of all options on the same endpoint, which share its load;
    `places` those among the endpoints that were given."""

    endpoints: Sequence[Endpoint]
    weights: Sequence[int]
    capacities: Sequence[int]
    places: Sequence[int]


class InferenceBalancer:
    """Shared by all models; instances are told apart by their id."""

    def __init__(self, clock: Clock, random: Random, index: PrefixIndex | None = None) -> None:
        self._clock = clock
        self._random = random
        self._index = index if index is not None else PrefixIndex()

    def pick(
        self, endpoints: Sequence[Endpoint], prompt: Prompt, weights: Sequence[int] | None = None
    ) -> Choice:
        """`weights` where they are not the endpoints' own: several targets may be on one endpoint, which
        is then given once for each.

        Raises Unavailable when there is none, Overloaded when all are saturated for this priority.
        """
        options = _options(endpoints, weights, _admitting(eligible(endpoints), prompt.priority))
        if len(options.endpoints) == 1:
            return Choice(options.endpoints[0], "only one", options.places[0])
        names = blocks(prompt.text)
        chosen, reason = self._choose(options, prompt, names)
        endpoint = options.endpoints[chosen]
        self._index.record(names, endpoint.instance)
        return Choice(endpoint, reason, options.places[chosen])

    def forget(self, instance: str) -> None:
        self._index.forget(instance)

    def _choose(self, options: _Options, prompt: Prompt, names: list[bytes]) -> tuple[int, str]:
        """The place among `options`."""
        endpoints, weights = options.endpoints, options.weights
        if self._random.random() < EXPLORATION:
            return draw(weights, self._random), "exploration"
        matched = self._index.matches(names) if names and weights.count(weights[0]) == len(weights) else {}
        if matched and _balanced(endpoints):
            depths = [matched.get(endpoint.instance, 0) for endpoint in endpoints]
            most = max(depths)
            if most / len(names) >= MATCH_THRESHOLD:
                reason = f"has {most / len(names):.0%} of the prompt cached"
                return self._draw(weights, [n for n, depth in enumerate(depths) if depth == most]), reason
        scores = self._scores(options, prompt, matched, len(names))
        lowest = min(scores)
        bound = max(lowest * MARGIN, lowest + MARGIN_SECONDS)
        best = [n for n, score in enumerate(scores) if score <= bound]
        return self._draw(weights, best), f"lowest score {lowest:.3f}"

    def _draw(self, weights: Sequence[int], among: list[int]) -> int:
        if len(among) == 1:
            return among[0]
        return among[draw([weights[n] for n in among], self._random)]

    def _scores(self, options: _Options, prompt: Prompt, matched: dict[str, int], total: int) -> list[float]:
        now, tokens = self._clock.monotonic(), prompt.tokens
        fastest = 0.0
        for endpoint in options.endpoints:
            if endpoint.prefill_rate > fastest:
                fastest = endpoint.prefill_rate
        fastest = fastest or DEFAULT_PREFILL_RATE
        scores = []
        for endpoint, capacity in zip(options.endpoints, options.capacities, strict=True):
            rate = endpoint.prefill_rate or fastest
            load = endpoint.queued_tokens / rate + endpoint.tokens / DECODE_RATE
            own = tokens / rate
            if matched:
                own *= 1.0 - matched.get(endpoint.instance, 0) / total
            scores.append(load / (capacity or 1) + own + endpoint.penalty(now))
        return scores


def _options(
    endpoints: Sequence[Endpoint], weights: Sequence[int] | None, admitted: Sequence[Endpoint]
) -> _Options:
    """Those of `endpoints` that are admitted; of weight 0 only when there are no others."""
    if weights is None:
        weights = capacities = [endpoint.weight for endpoint in endpoints]
    else:
        together: dict[Endpoint, int] = {}
        for endpoint, weight in zip(endpoints, weights, strict=True):
            together[endpoint] = together.get(endpoint, 0) + weight
        capacities = [together[endpoint] for endpoint in endpoints]
    everyone = range(len(endpoints))
    if admitted is endpoints and 0 not in weights:
        return _Options(endpoints, weights, capacities, everyone)
    allowed = set(admitted)
    kept = [n for n in everyone if endpoints[n] in allowed]
    kept = [n for n in kept if weights[n] > 0] or kept
    return _Options(
        [endpoints[n] for n in kept], [weights[n] for n in kept], [capacities[n] for n in kept], kept
    )


def _balanced(endpoints: Sequence[Endpoint]) -> bool:
    loads = [endpoint.active for endpoint in endpoints]
    idle, busy = min(loads), max(loads)
    return busy - idle <= IMBALANCE_ABSOLUTE or busy <= IMBALANCE_RELATIVE * idle


def _admitting(endpoints: Sequence[Endpoint], priority: int) -> Sequence[Endpoint]:
    bound = SATURATION if priority == 1 else SATURATION // 2
    if priority == 0 or all(endpoint.active < bound or not endpoint.internal for endpoint in endpoints):
        return endpoints
    free = [endpoint for endpoint in endpoints if endpoint.active < bound or not endpoint.internal]
    if not free:
        raise Overloaded("every instance of this model is saturated", retry_after=1.0)
    return free
