"""That this process was told to end, and until when: set by who runs it, seen by the service.

told to end ──begin──► /readyz says draining ──► requests end ──► lifespans end ──► the deadline
"""

from collections.abc import Callable

from moonpool.core.clock import SYSTEM_CLOCK, Clock


class Shutdown:
    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._deadline: float | None = None
        self._callbacks: list[Callable[[], None]] = []

    def on_begin(self, callback: Callable[[], None]) -> None:
        """Called once, when the process is told: for what would otherwise go on until the deadline."""
        self._callbacks.append(callback)

    def begin(self, seconds: float) -> None:
        """The process is to have ended in that time. The first word counts."""
        if self._deadline is None:
            self._deadline = self._clock.monotonic() + seconds
            for callback in self._callbacks:
                callback()

    @property
    def begun(self) -> bool:
        return self._deadline is not None

    def remaining(self) -> float:
        """Seconds that are left, never negative; none when there was no notice."""
        if self._deadline is None:
            return 0.0
        return max(0.0, self._deadline - self._clock.monotonic())
