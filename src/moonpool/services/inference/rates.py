"""How fast a model is at the moment, for the inference balancer. Pure."""

from moonpool.services.inference.engine import Finished

SMOOTHING = 0.2
"""Weight of the newest measurement."""
SHORTEST_PROMPT = 16
"""Uncached tokens below which a prompt measures overhead rather than speed."""


class Rates:
    """Tokens a second, smoothed; 0 until measured. `decode` is what one request gets."""

    def __init__(self) -> None:
        self.prefill = 0.0
        self.decode = 0.0

    def observe(self, end: Finished) -> None:
        uncached = end.prompt_tokens - end.cached_tokens
        if uncached >= SHORTEST_PROMPT and end.prefill_seconds > 0:
            self.prefill = _smooth(self.prefill, uncached / end.prefill_seconds)
        if end.completion_tokens > 1 and end.decode_seconds > 0:
            self.decode = _smooth(self.decode, end.completion_tokens / end.decode_seconds)


def _smooth(old: float, new: float) -> float:
    return new if old == 0.0 else old + SMOOTHING * (new - old)
