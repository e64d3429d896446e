"""Time as a dependency, so that everything that decides by time can be tested without waiting."""

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds, as floats. `monotonic` measures; `time` (Unix epoch) is what people and files see."""

    def monotonic(self) -> float: ...

    def time(self) -> float: ...


class SystemClock:
    """The machine's own clocks."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


class ManualClock:
    """A clock that moves when told to: for tests and simulations."""

    def __init__(self, monotonic: float = 1_000.0, wall: float = 1_700_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        return self._monotonic

    def time(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        self._monotonic += seconds
        self._wall += seconds


SYSTEM_CLOCK: Clock = SystemClock()
