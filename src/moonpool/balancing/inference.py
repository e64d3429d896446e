"""The inference balancer: which instance answers a prompt soonest without slowing the others.

    score = predicted seconds to the first token        (queued + own uncached prompt tokens) / prefill rate
          + decode load ahead                            answer tokens still owed / DECODE_RATE

An instance that has at least half of the prompt in its cache is preferred, unless it is so much busier
than the idlest (by more than 32 requests and 1.1 times: SGLang's bound) that affinity would cost more
than it saves. One pick in a hundred explores, so that a measured rate cannot freeze an old truth.
"""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.policies import eligible
from moonpool.balancing.prefix import PrefixIndex, blocks
from moonpool.core.clock import Clock
from moonpool.core.errors import Overloaded

MATCH_THRESHOLD = 0.5
IMBALANCE_ABSOLUTE = 32
IMBALANCE_RELATIVE = 1.1
EXPLORATION = 0.01
DEFAULT_PREFILL_RATE = 500.0
"""Prompt tokens a second assumed before anything was measured."""
DECODE_RATE = 100.0
"""Answer tokens a second that turn owed tokens into seconds; only the ratio to the prefill part counts."""
BYTES_PER_TOKEN = 4
SATURATION = 256
"""Requests under way on one endpoint above which it is saturated: priority 0 may always go on, 1 up to
this, 2 up to half of it."""


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
    endpoint: Endpoint
    reason: str


class InferenceBalancer:
    """Shared by all models; instances are told apart by their id."""

    def __init__(self, clock: Clock, random: Random, index: PrefixIndex | None = None) -> None:
        self._clock = clock
        self._random = random
        self._index = index if index is not None else PrefixIndex()

    def pick(self, endpoints: Sequence[Endpoint], prompt: Prompt) -> Choice:
        """Raises Unavailable when there is none, Overloaded when all are saturated for this priority."""
        candidates = _admitting(eligible(endpoints), prompt.priority)
        if len(candidates) == 1:
            return Choice(candidates[0], "only one")
        names = blocks(prompt.text)
        choice = self._choose(candidates, prompt, names)
        self._index.record(names, choice.endpoint.instance)
        return choice

    def forget(self, instance: str) -> None:
        self._index.forget(instance)

    def _choose(self, candidates: Sequence[Endpoint], prompt: Prompt, names: list[bytes]) -> Choice:
        if self._random.random() < EXPLORATION:
            return Choice(self._random.choice(candidates), "exploration")
        matched = self._index.matches(names) if names else {}
        loads = [endpoint.active for endpoint in candidates]
        idle, busy = min(loads), max(loads)
        balanced = busy - idle <= IMBALANCE_ABSOLUTE or busy <= IMBALANCE_RELATIVE * idle
        if matched and balanced:
            holder = max(candidates, key=lambda e: matched.get(e.instance, 0))
            share = matched.get(holder.instance, 0) / len(names)
            if share >= MATCH_THRESHOLD:
                return Choice(holder, f"has {share:.0%} of the prompt cached")
        now = self._clock.monotonic()
        scored = [
            (self._score(e, prompt, matched, len(names), now), self._random.random(), e) for e in candidates
        ]
        score, _, endpoint = min(scored, key=lambda entry: entry[:2])
        return Choice(endpoint, f"lowest score {score:.3f}")

    def _score(
        self, endpoint: Endpoint, prompt: Prompt, matched: dict[str, int], total: int, now: float
    ) -> float:
        share = matched.get(endpoint.instance, 0) / total if total else 0.0
        uncached = prompt.tokens * (1.0 - share)
        rate = endpoint.prefill_rate or DEFAULT_PREFILL_RATE
        first_token = (endpoint.queued_tokens + uncached) / rate
        decode = endpoint.tokens / DECODE_RATE
        return (first_token + decode + endpoint.penalty(now)) / max(endpoint.weight, 1)


def _admitting(endpoints: Sequence[Endpoint], priority: int) -> Sequence[Endpoint]:
    bound = SATURATION if priority == 1 else SATURATION // 2
    if priority == 0 or all(endpoint.active < bound for endpoint in endpoints):
        return endpoints
    free = [endpoint for endpoint in endpoints if endpoint.active < bound]
    if not free:
        raise Overloaded("every instance of this model is saturated", retry_after=1.0)
    return free
