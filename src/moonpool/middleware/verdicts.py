"""What filters decided, counted when a request is over: cache ratios, denials, retries. Pure counting.

Filters tell their decisions once (`ctx.decide`); counting here means that none needs a metric of its own.
Only those filters are counted whose verdicts are few fixed words: a balancer's is an endpoint.
"""

from moonpool.core.context import Context

COUNTED = frozenset(
    {
        "authentication",
        "breaker",
        "cache",
        "circuit_breaker",
        "dead letter",
        "failover",
        "fallback",
        "health",
        "idempotency",
        "money",
        "rate_limit",
        "retry",
        "validation",
    }
)
ROWS = 200
"""Different (filter, verdict) pairs; more would be a mistake in a filter, and are counted as "other"."""


class Verdicts:
    """Touched in the event loop only."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}

    def count(self, ctx: Context) -> None:
        """Once a request, when its body is over."""
        counts = self._counts
        for decision in ctx.decisions:
            key = decision[:2]
            if key in counts:
                counts[key] += 1
            elif key[0] in COUNTED:
                if len(counts) >= ROWS:
                    key = (key[0], "other")
                counts[key] = counts.get(key, 0) + 1

    def totals(self) -> dict[tuple[str, str], int]:
        """By filter and verdict."""
        return dict(self._counts)
