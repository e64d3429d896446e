"""An endpoint as a balancer sees it: an address with what is going on there and how it has done lately."""

import math

from moonpool.http.address import Address

DECAY_SECONDS = 10.0
"""Time constant of the latency average, as in Finagle's peak-EWMA."""
FAILURE_PENALTY = 4.0
"""A failed call counts as one that took this many times the current estimate…"""
FAILURE_FLOOR = 0.1
"""…but at least this many seconds: failing fast must not look like being fast."""
FAILURE_DECAY_SECONDS = 5.0


class Endpoint:
    """Mutable and shared by all requests of a process; touched in the event loop only.

    `active` counts leases (requests from dispatch to body end); `tokens` is the decode work they still
    have before them, for inference.
    """

    __slots__ = (
        "_cost",
        "_failed_at",
        "_failure",
        "_stamp",
        "active",
        "address",
        "failed",
        "instance",
        "internal",
        "prefill_rate",
        "queued_tokens",
        "ready",
        "release",
        "seconds",
        "served",
        "tokens",
        "weight",
    )

    def __init__(
        self,
        address: Address,
        *,
        instance: str,
        release: str,
        internal: bool = True,
        weight: int = 1,
    ) -> None:
        self.address = address
        self.instance = instance
        self.release = release
        self.internal = internal
        """Whether it is one of our own services, which get the signed context."""
        self.weight = weight
        self.ready = True
        self.active = 0
        self.served = 0
        """Leases given back so far, whatever became of them."""
        self.failed = 0
        """Those of them that failed for the endpoint's own reasons."""
        self.seconds = 0.0
        """How long they were held, in sum."""
        self.tokens = 0
        """Answer tokens promised (max_tokens, or a guess) by the requests under way."""
        self.queued_tokens = 0
        """Prompt tokens sent whose first answer token has not come yet."""
        self.prefill_rate = 0.0
        """Measured prompt tokens a second; 0: not measured yet."""
        self._cost = 0.0
        self._stamp = 0.0
        self._failure = 0.0
        self._failed_at = 0.0

    def observe(self, seconds: float, now: float) -> None:
        """A call took that long. Peaks are taken at once, and forgotten slowly."""
        elapsed = max(now - self._stamp, 0.0)
        self._stamp = now
        if seconds > self._cost:
            self._cost = seconds
        else:
            keep = math.exp(-elapsed / DECAY_SECONDS)
            self._cost = self._cost * keep + seconds * (1.0 - keep)

    def fail(self, now: float) -> None:
        """A call failed for the endpoint's own reasons."""
        self._failure = max(self._cost * FAILURE_PENALTY, FAILURE_FLOOR) + self.penalty(now)
        self._failed_at = now

    def penalty(self, now: float) -> float:
        """Seconds that recent failures add to the estimate."""
        if self._failure == 0.0:
            return 0.0
        return self._failure * math.exp(-(now - self._failed_at) / FAILURE_DECAY_SECONDS)

    def latency(self, now: float) -> float:
        """The decayed estimate of how long a call takes, in seconds."""
        return self._cost * math.exp(-max(now - self._stamp, 0.0) / DECAY_SECONDS)

    def __repr__(self) -> str:
        return f"<Endpoint {self.instance} active={self.active}>"
