"""How long to wait before another attempt, if there is still time for one. Pure.

Decorrelated jitter (Brooker, "Exponential Backoff And Jitter", 2015): each wait is drawn between the base
and three times the last one, so that callers who failed together do not come back together.
"""

from collections.abc import Callable

from moonpool.contracts.resilience import RetryPolicy

GROWTH = 3.0


class Backoff:
    """Holds no state of a request: the caller keeps the last wait, 0 before the first."""

    __slots__ = ("_base", "_longest", "_random", "_wait_longest")

    def __init__(self, policy: RetryPolicy, random: Callable[[], float]) -> None:
        """`random` gives numbers from 0 to below 1."""
        self._base = policy.backoff_base
        self._longest = policy.backoff_longest
        self._random = random
        self._wait_longest = policy.wait_longest

    def next(self, previous: float) -> float:
        """Seconds: at least the base, at most the longest (which wins if it is shorter)."""
        most = max(self._base, previous * GROWTH)
        return min(self._longest, self._base + (most - self._base) * self._random())

    def wait(self, previous: float, retry_after: float | None, remaining: float | None) -> float | None:
        """Seconds until the next attempt, or None: do not try again, since no time of the `remaining` seconds
        (None: no deadline) would be left.

        What the upstream asked for is obeyed to the second, spread by up to one base: never earlier, and
        not everybody at once.
        """
        if retry_after is None:
            seconds = self.next(previous)
        elif retry_after > self._wait_longest:
            return None
        else:
            seconds = max(0.0, retry_after) + self._base * self._random()
        if remaining is not None and seconds >= remaining:
            return None
        return seconds
