"""A number that has to be waited for (a count in a database), looked at now and then, so that whoever scrapes
need not wait and the store is asked at a bounded rate."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from moonpool.core.errors import MoonpoolError

T = TypeVar("T")
INTERVAL = 10.0
"""Seconds."""


class Sampled(Generic[T]):
    """A component. Calling it gives the last value; while the source is away, the last one it gave."""

    def __init__(self, source: Callable[[], Awaitable[T]], first: T, *, interval: float = INTERVAL) -> None:
        self._source = source
        self._value = first
        self._interval = interval
        self._task: asyncio.Task[None] | None = None
        self.failures = 0

    def __call__(self) -> T:
        return self._value

    async def refresh(self) -> None:
        try:
            self._value = await self._source()
        except MoonpoolError:
            self.failures += 1

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="sampled")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(self._interval)
