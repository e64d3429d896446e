"""A point in monotonic time by which a whole request, with all its attempts, must be over."""

from typing import NamedTuple

from moonpool.core.errors import DeadlineExceeded


class Deadline(NamedTuple):
    """`at` is in seconds of the monotonic clock that made it; it never crosses a process as such."""

    at: float

    @classmethod
    def after(cls, now: float, seconds: float) -> "Deadline":
        return cls(now + seconds)

    def remaining(self, now: float) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - now)

    def bound(self, now: float, seconds: float) -> float:
        """The shorter of `seconds` and what is left.

        Raises DeadlineExceeded when nothing is left, so that no attempt starts that cannot finish.
        """
        left = self.at - now
        if left <= 0.0:
            raise DeadlineExceeded("the request's deadline has passed")
        return min(left, seconds)
