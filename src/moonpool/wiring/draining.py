"""How long an instance may drain (docs/adr/0021). One rule for gateways, services and programs:

    it was replaced (another one serves)     until its requests end, at most `replaced_drain_timeout`
    the platform ends, or it is hurried      at most `drain_timeout` from then on, whatever was said before

`Patience` judges one that was replaced while it drains, `surplus` tells which are too many. Pure.
"""

from collections.abc import Sequence
from typing import TypeVar

from moonpool.core.clock import Clock
from moonpool.ports.spawner import Draining

T = TypeVar("T")
MOST = 3
"""Of a module, for each instance that serves, so many that were replaced may drain without hurry: each is a
process with its memory, an engine's with half a gigabyte, and somebody may replace it every minute."""
LOOK_EVERY = 1.0
"""Seconds between looks at one that drains."""


class Patience:
    """For one instance from now on: `seconds` in all, at most `silence` of them without a word, if it is one
    that tells."""

    def __init__(self, seconds: float, silence: float, clock: Clock) -> None:
        self._silence = silence
        self._clock = clock
        self._deadline = clock.monotonic() + seconds
        self._silent = 0.0
        self._notes = -1

    @property
    def left(self) -> float:
        return max(0.0, self._deadline - self._clock.monotonic())

    def ends(self, seen: Draining) -> str:
        """Why it is waited for no more; "" when it is. To be asked every LOOK_EVERY.

        Silence is counted in looks: while this process itself was held up nobody was listening.
        """
        self._silent = self._silent + LOOK_EVERY if seen.notes == self._notes else 0.0
        self._notes = seen.notes
        if seen.tells and self._silent > self._silence:
            return f"silent for {self._silent:g} s"
        return "" if self.left else f"{seen.under_way} requests have not ended in time"


def words(seen: Draining) -> str:
    """For the status of one that drains; "" when it has no requests left, or cannot tell."""
    if not seen.under_way:
        return ""
    return f"{seen.under_way} request{'' if seen.under_way == 1 else 's'} to end"


def surplus(draining: Sequence[T], *, serving: int, leaving: int) -> Sequence[T]:
    """Those of a module that drain without hurry and are too many, the oldest first as in `draining`.
    `serving` are left, and `leaving` of those that drain have just begun, all at once: fewer are no pile."""
    return draining[: max(0, len(draining) - MOST * max(1, serving, leaving))]
