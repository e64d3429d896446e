"""Work that a service does beside its requests, for as long as its application lives.

A job runs until it is cancelled. One that ends with an error is logged and started again after a
back-off: background work never takes the service down with it, and never stops for good.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from litestar import Litestar
from structlog.typing import FilteringBoundLogger

from moonpool.asgi.app import Lifespan
from moonpool.core.errors import MoonpoolError


class Backoff:
    """Delays that double from `base` to `ceiling` seconds, each with up to half of it taken off at
    random, so that instances which failed together do not come back together."""

    def __init__(
        self, *, base: float = 0.25, ceiling: float = 30.0, chance: Callable[[], float] = random.random
    ) -> None:
        self._base = base
        self._ceiling = ceiling
        self._chance = chance
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        delay = min(self._ceiling, self._base * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return delay * (1.0 - 0.5 * self._chance())

    def reset(self) -> None:
        self._failures = 0


def background(name: str, job: Callable[[], Awaitable[None]], log: FilteringBoundLogger) -> Lifespan:
    """A lifespan that runs `job` until the application ends, then cancels it and waits for it."""

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        task = asyncio.create_task(_keep_running(name, job, log), name=name)
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return lifespan


async def _keep_running(name: str, job: Callable[[], Awaitable[None]], log: FilteringBoundLogger) -> None:
    backoff = Backoff()
    while True:
        try:
            await job()
        except MoonpoolError as error:
            log.warning("background job failed", job=name, error=error.message)
        except Exception as error:
            log.error("background job crashed", job=name, exc_info=error)
        await asyncio.sleep(backoff.next())
