"""When keys were last used, written in batches: a verification never waits for a write.

Gateways remember verdicts, hence the times are as exact as their memory is short; what was noted in the
last seconds before a kill is lost, which is why nothing is decided by them.
"""

import asyncio

from structlog.typing import FilteringBoundLogger

from moonpool.core.clock import Clock
from moonpool.core.errors import Unavailable
from moonpool.ports.database import Database
from moonpool.services.auth import store

INTERVAL = 10.0
"""Seconds between writes."""
CAPACITY = 10_000
"""Keys noted between two writes; those beyond are noted at their next use."""


class Activity:
    def __init__(self, database: Database, clock: Clock, log: FilteringBoundLogger) -> None:
        self._database = database
        self._clock = clock
        self._log = log
        self._used: dict[str, float] = {}

    def note(self, key_id: str) -> None:
        if key_id in self._used or len(self._used) < CAPACITY:
            self._used[key_id] = self._clock.time()

    async def flush(self) -> None:
        """Write what was noted; what cannot be written is kept for the next time."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            async with self._database.transaction() as connection:
                await store.touch_keys(connection, used)
        except Unavailable as error:
            self._used = used | self._used
            self._log.warning("last use of keys is not written yet", reason=error.message)

    async def run(self) -> None:
        """Flush for ever, and once more at the end."""
        try:
            while True:
                await asyncio.sleep(INTERVAL)
                await self.flush()
        finally:
            await self.flush()
