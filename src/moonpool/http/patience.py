"""How long a peer may be slow. Decides only: the caller brings the time and the counts (bytes)."""

from moonpool.http.limits import Limits


class BodyRate:
    """Judges whether a body arrives fast enough, on average since it could (slowloris)."""

    __slots__ = ("_limits", "_mark", "_seen")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._mark = 0.0
        self._seen = 0

    def restart(self) -> None:
        """Time in which we did not read, or no body was due, counts for nothing."""
        self._mark = 0.0

    def too_slow(self, now: float, received: int) -> bool:
        """`received` counts from the body's start; a smaller count than before is a new body."""
        if not self._mark or received < self._seen:
            self._mark, self._seen = now, received
            return False
        over = now - self._mark - self._limits.body_grace
        return over > 0 and received - self._seen < over * self._limits.body_rate


class ReaderRate:
    """Judges whether a peer takes what is written to it: `write_high_water` bytes each
    `slow_reader_timeout`, or everything."""

    __slots__ = ("_limits", "_mark", "_size")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._mark = 0.0
        self._size = 0

    def restart(self) -> None:
        self._mark = 0.0

    def too_slow(self, now: float, unsent: int) -> bool:
        if unsent == 0:
            self._mark = 0.0
            return False
        if not self._mark or unsent <= self._size - self._limits.write_high_water:
            self._mark, self._size = now, unsent
            return False
        return now - self._mark > self._limits.slow_reader_timeout
