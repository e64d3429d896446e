"""Admission: so many requests run, so many wait in order, and one more is refused at once.

Pure asyncio, no I/O. A waiting request whose client leaves (its task is cancelled) leaves the queue.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from moonpool.core.clock import Clock
from moonpool.core.errors import Overloaded

SMOOTHING = 0.2
"""Weight of the newest duration in the running mean."""
FIRST_GUESS = 2.0
"""Seconds that a request is taken to last before any has ended."""


class Slots:
    def __init__(self, *, running: int, waiting: int, clock: Clock) -> None:
        self._limit = running
        self._queue_limit = waiting
        self._clock = clock
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._mean = FIRST_GUESS
        self.running = 0

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @property
    def limit(self) -> int:
        return self._limit

    def allow_waiting(self, waiting: int) -> None:
        """The queue's length from now on. Who waits already stays."""
        self._queue_limit = waiting

    def wait_estimate(self) -> float:
        """Seconds until a request that came now would run."""
        ahead = self.running + self.waiting - self._limit + 1
        return max(0.0, ahead * self._mean / self._limit)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot. Raises Overloaded, with the time after which to try again, when the queue is full."""
        await self._acquire()
        started = self._clock.monotonic()
        try:
            yield
        finally:
            self._mean += SMOOTHING * (self._clock.monotonic() - started - self._mean)
            self._release()

    async def _acquire(self) -> None:
        if self.running < self._limit and not self._waiters:
            self.running += 1
            return
        if len(self._waiters) >= self._queue_limit:
            raise Overloaded(
                f"The model is busy: {self.running} requests run and {self.waiting} wait.",
                hint="Try again later.",
                retry_after=max(1.0, self.wait_estimate()),
            )
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                with suppress(ValueError):  # a release may have passed over it already
                    self._waiters.remove(waiter)
            else:  # the slot had just been handed over
                self._release()
            raise

    def _release(self) -> None:
        """Hand the slot to the first that waits, or free it."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.running -= 1
