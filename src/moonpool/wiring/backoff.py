"""How long to wait before the next restart. Pure: time and chance are handed in."""

from collections.abc import Callable

from moonpool.core.clock import Clock


class Backoff:
    """Doubles from `first` to `most` seconds; starts over after `healthy` seconds of good health.

    Each delay is drawn from its upper half, so that modules which fell together do not rise together.
    """

    def __init__(
        self, *, first: float, most: float, healthy: float, clock: Clock, random: Callable[[], float]
    ) -> None:
        self._first = first
        self._most = most
        self._healthy = healthy
        self._clock = clock
        self._random = random
        self._next = first
        self._well_since: float | None = None

    def well(self) -> None:
        """It is ready (again)."""
        if self._well_since is None:
            self._well_since = self._clock.monotonic()

    def unwell(self) -> None:
        """It is ready no more; what it had of good health counts if it was enough."""
        since, self._well_since = self._well_since, None
        if since is not None and self._clock.monotonic() - since >= self._healthy:
            self._next = self._first

    def delay(self) -> float:
        """Seconds to wait now that it has fallen."""
        self.unwell()
        delay, self._next = self._next, min(self._most, self._next * 2)
        return delay * (0.5 + 0.5 * self._random())
