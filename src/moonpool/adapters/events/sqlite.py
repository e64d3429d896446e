"""The platform's event log in one SQLite file, shared by all its processes.

    append ─► pending ─► one transaction for all that came meanwhile (group commit, fsync) ─┐
    consumers ◄─ watcher (data_version) ◄───────────────────────────────────────────────────┴─ file, WAL

A process has one thread for the file (worker.py). What is appended survives `kill -9` and the loss of
power once `append` has returned.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import structlog

from moonpool.adapters.events.sqlite_consumer import SqliteConsumer
from moonpool.adapters.events.sqlite_member import Member
from moonpool.adapters.events.sqlite_store import Append, Retention, Store, event_size
from moonpool.adapters.events.watcher import Watcher
from moonpool.adapters.events.worker import Worker
from moonpool.core.errors import BadRequest, MoonpoolError, Unavailable
from moonpool.ports.events import Event

PARTITIONS = 8
LEASE = 9.0
"""Seconds after which the partitions of a consumer that fell silent go to the others."""
TIDY_EVERY = 60.0
_BATCH_BYTES = 4 * 1024 * 1024
_PENDING_BYTES = 32 * 1024 * 1024
"""What may wait for the disk before appends are refused."""

_log = structlog.get_logger(__name__)


class _Pending(NamedTuple):
    append: Append
    done: "asyncio.Future[None]"


class SqliteEventLog:
    """Implements ports.events.EventLog. `partitions` counts for topics that do not exist yet."""

    def __init__(
        self,
        path: Path,
        *,
        partitions: int = PARTITIONS,
        lease: float = LEASE,
        retention: Retention | None = None,
        tidy_every: float = TIDY_EVERY,
    ) -> None:
        self._path = path
        self._partitions = partitions
        self._lease = lease
        self._retention = retention or Retention()
        self._tidy_every = tidy_every
        self._worker: Worker | None = None
        self._store: Store | None = None
        self._watcher: Watcher | None = None
        self._pending: list[_Pending] = []
        self._pending_bytes = 0
        self._flusher: asyncio.Task[None] | None = None
        self._tidier: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._worker = Worker()
        try:
            self._store = await self._worker.run(
                Store, self._path, partitions=self._partitions, retention=self._retention
            )
        except BaseException:
            await self.stop()
            raise
        self._watcher = Watcher(self._path)
        self._tidier = asyncio.create_task(self._tidy(), name="event-log-retention")

    async def stop(self) -> None:
        """What is pending is still written."""
        if self._tidier is not None:
            self._tidier.cancel()
            await asyncio.gather(self._tidier, return_exceptions=True)
        worker, store, watcher = self._worker, self._store, self._watcher
        self._worker = self._store = self._watcher = self._tidier = None
        if self._flusher is not None:
            await self._flusher
        if worker is not None:
            if store is not None:
                await worker.run(store.close)
            await worker.close()
        if watcher is not None:
            watcher.close()

    async def append(self, topic: str, events: Sequence[Event]) -> None:
        worker, store, watcher = self._opened()
        if not events:
            return
        try:
            size = sum(event_size(event) for event in events)
        except UnicodeEncodeError as error:
            raise BadRequest("An event's id and key must be valid Unicode text.") from error
        if self._pending_bytes + size > _PENDING_BYTES:
            raise Unavailable("The event log is slower than what is appended to it.", retry_after=1.0)
        done = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(Append(topic, tuple(events), size), done))
        self._pending_bytes += size
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush(worker, store, watcher), name="event-log-flush")
        await done

    @asynccontextmanager
    async def consumer(
        self, topic: str, group: str, *, from_end: bool = False
    ) -> AsyncIterator[SqliteConsumer]:
        worker, store, watcher = self._opened()
        member = Member(store, topic, group, from_end=from_end, lease=self._lease)
        consumer = SqliteConsumer(member, worker, watcher, lease=self._lease)
        await consumer.join()
        try:
            yield consumer
        finally:
            await asyncio.shield(consumer.leave())

    async def lag(self, topic: str, group: str) -> int:
        worker, store, _ = self._opened()
        return await worker.run(store.lag, topic, group)

    async def ping(self) -> None:
        worker, store, _ = self._opened()
        await worker.run(store.ping)

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    def _opened(self) -> tuple[Worker, Store, Watcher]:
        if self._worker is None or self._store is None or self._watcher is None:
            raise Unavailable("The event log is closed.", retry_after=1.0)
        return self._worker, self._store, self._watcher

    async def _flush(self, worker: Worker, store: Store, watcher: Watcher) -> None:
        """Lives while something is pending; what arrives during a commit makes the next one."""
        try:
            while batch := self._next_batch():
                await self._write(batch, worker, store)
                watcher.notify()
        finally:
            self._flusher = None

    async def _write(self, batch: list[_Pending], worker: Worker, store: Store) -> None:
        verdicts: Sequence[Exception | None]
        try:
            verdicts = await worker.run(store.append, [pending.append for pending in batch])
        except Exception as error:  # noqa: BLE001 - a task's boundary: those who wait must hear of it
            verdicts = [error] * len(batch)
        for pending, verdict in zip(batch, verdicts, strict=True):
            if pending.done.done():
                continue  # its caller was cancelled
            if verdict is None:
                pending.done.set_result(None)
            else:
                pending.done.set_exception(verdict)

    def _next_batch(self) -> list[_Pending]:
        size, count = 0, 0
        for pending in self._pending:
            if count and size + pending.append.size > _BATCH_BYTES:
                break
            size, count = size + pending.append.size, count + 1
        batch, self._pending = self._pending[:count], self._pending[count:]
        self._pending_bytes -= size
        return batch

    async def _tidy(self) -> None:
        worker, store, _ = self._opened()
        while True:
            await asyncio.sleep(self._tidy_every)
            try:
                while await worker.run(store.retain):
                    pass  # in small steps, so that appends come in between
            except MoonpoolError as error:
                _log.warning("event log retention failed", reason=error.message)
