"""That this process was told to end, and until when: set by who runs it, seen by the service.

told to end ──begin──► /readyz says draining ──► requests end ──► lifespans end ──► the deadline

Who is replaced has long, and who ends with the platform has not (docs/adr/0021): the second word may come
after the first, and moves the deadline nearer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from moonpool.core.clock import SYSTEM_CLOCK, Clock

T = TypeVar("T")


class Shutdown:
    """Belongs to one event loop."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._deadline: float | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._moved = asyncio.Event()
        self.under_way: Callable[[], int] = int
        """How many requests have not ended, as the server of this process counts them."""

    def on_begin(self, callback: Callable[[], None]) -> None:
        """Called once, when the process is told (at once if it was): for what would otherwise go on until
        the deadline."""
        if self.begun:
            callback()
        else:
            self._callbacks.append(callback)

    def begin(self, seconds: float) -> None:
        """The process is to have ended in that time. Said again it counts when it leaves less."""
        deadline = self._clock.monotonic() + seconds
        if self._deadline is not None and deadline >= self._deadline:
            return
        self._deadline = deadline
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    @property
    def begun(self) -> bool:
        return self._deadline is not None

    def remaining(self) -> float:
        """Seconds that are left, never negative; none when there was no notice."""
        if self._deadline is None:
            return 0.0
        return max(0.0, self._deadline - self._clock.monotonic())

    async def wait(self) -> None:
        """Until the process is told."""
        while self._deadline is None:
            await self._moved.wait()

    async def within(self, work: Callable[[float], Awaitable[T]], *, keep: float = 0.0) -> T:
        """`work`, told how many seconds it has: what remains, but `keep` of it.

        When the deadline moves nearer it is cancelled, and called again with what is left then.
        """
        while True:
            moved = asyncio.ensure_future(self._moved.wait())
            working = asyncio.ensure_future(work(max(0.0, self.remaining() - keep)))
            try:
                await asyncio.wait({working, moved}, return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    return working.result()
            finally:
                moved.cancel()
                if not working.done():
                    working.cancel()
                    await asyncio.wait({working})
