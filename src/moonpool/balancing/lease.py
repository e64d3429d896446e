"""A request's hold on an endpoint, from dispatch to the end of the answer's body.

Load counters never leak because they are leases: taken in one place, given back exactly once, by
whichever of end, failure or cancellation comes first.
"""

from moonpool.balancing.endpoint import Endpoint
from moonpool.core.clock import Clock


class Lease:
    __slots__ = ("_clock", "_first_token", "_prompt", "_released", "_started", "_tokens", "endpoint")

    def __init__(self, endpoint: Endpoint, clock: Clock, prompt: int = 0, tokens: int = 0) -> None:
        self.endpoint = endpoint
        self._clock = clock
        self._started = clock.monotonic()
        self._released = False
        self._first_token = False
        self._prompt = prompt
        self._tokens = tokens
        endpoint.active += 1
        endpoint.tokens += tokens
        endpoint.queued_tokens += prompt

    def answered(self) -> None:
        """The first byte of the answer is here: the prompt is no longer queued work."""
        if self._first_token or self._released:
            return
        self._first_token = True
        self.endpoint.queued_tokens -= self._prompt
        if self._prompt:
            took = max(self._clock.monotonic() - self._started, 1e-4)
            rate, old = self._prompt / took, self.endpoint.prefill_rate
            self.endpoint.prefill_rate = rate if old == 0.0 else old * 0.8 + rate * 0.2

    def produced(self, tokens: int) -> None:
        """`tokens` of the promised answer are done."""
        if self._released:
            return
        done = min(tokens, self._tokens)
        self._tokens -= done
        self.endpoint.tokens -= done

    def release(self, *, failed: bool = False, neutral: bool = False) -> None:
        """Give it back; repeated calls do nothing. `neutral`: says nothing about the endpoint (the
        client left)."""
        if self._released:
            return
        now = self._clock.monotonic()
        endpoint = self.endpoint
        if not self._first_token:
            endpoint.queued_tokens -= self._prompt
        self._released = True
        endpoint.active -= 1
        endpoint.tokens -= self._tokens
        endpoint.served += 1
        took = now - self._started
        endpoint.seconds += took
        if failed:
            endpoint.failed += 1
            endpoint.fail(now)
        elif not neutral:
            endpoint.observe(took, now)
