"""A consumer as the port has it, around a member of the group: waits, and keeps the lease."""

import asyncio
from collections.abc import Sequence

import structlog

from moonpool.adapters.events.sqlite_member import Member
from moonpool.adapters.events.watcher import Watcher
from moonpool.adapters.events.worker import Worker
from moonpool.core.errors import MoonpoolError
from moonpool.ports.events import Delivered

HEARTBEATS_PER_LEASE = 3

_log = structlog.get_logger(__name__)


class SqliteConsumer:
    """Implements ports.events.Consumer."""

    def __init__(self, member: Member, worker: Worker, watcher: Watcher, *, lease: float) -> None:
        self._member = member
        self._worker = worker
        self._watcher = watcher
        self._interval = lease / HEARTBEATS_PER_LEASE
        self._heart: asyncio.Task[None] | None = None
        self._polls = 0
        self._unseen: int | None = None

    async def join(self) -> None:
        await self._worker.run(self._member.join)
        self._heart = asyncio.create_task(self._beat(), name="event-log-heartbeat")

    async def leave(self) -> None:
        """Hand the partitions over at once; if that fails, the lease does it."""
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.gather(self._heart, return_exceptions=True)
        try:
            await self._worker.run(self._member.leave)
        except MoonpoolError as error:
            _log.warning("consumer left without notice", reason=error.message)

    async def poll(self, *, limit: int = 500, wait: float = 1.0) -> Sequence[Delivered]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            seen = self._watcher.version
            delivered = await self._read(limit)
            remaining = deadline - loop.time()
            if delivered or remaining <= 0.0:
                return delivered
            await self._watcher.changed(seen, remaining)

    async def commit(self) -> None:
        await self._recover()
        await self._worker.run(self._member.commit)

    async def _read(self, limit: int) -> Sequence[Delivered]:
        await self._recover()
        self._polls += 1
        self._unseen = self._polls
        delivered = await self._worker.run(self._member.poll, limit, self._polls)
        self._unseen = None
        return delivered

    async def _recover(self) -> None:
        """A poll was cancelled: what it read must come again, and must not be committed."""
        if self._unseen is not None:
            await self._worker.run(self._member.rewind, self._unseen)
            self._unseen = None

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._worker.run(self._member.heartbeat)
            except MoonpoolError as error:
                _log.warning("consumer cannot renew its lease", reason=error.message)
