"""From the event log into the database, and out of it again when it is old: a background job."""

import msgspec
from prometheus_client import CollectorRegistry, Counter
from structlog.typing import FilteringBoundLogger

from moonpool.contracts.requests import TOPIC, RequestRecord
from moonpool.core.clock import Clock
from moonpool.ports.events import Consumer, Delivered, EventLog
from moonpool.services.monitoring.store import Store

GROUP = "monitoring"
KEEP_ROWS = 50_000
KEEP_SECONDS = 7 * 86_400.0
PRUNE_EVERY = 60.0

_record = msgspec.json.Decoder(RequestRecord)


class Collector:
    def __init__(
        self,
        store: Store,
        events: EventLog,
        clock: Clock,
        log: FilteringBoundLogger,
        metrics: CollectorRegistry,
        *,
        keep_rows: int = KEEP_ROWS,
        keep_seconds: float = KEEP_SECONDS,
    ) -> None:
        self._store = store
        self._events = events
        self._clock = clock
        self._log = log
        self._keep_rows = keep_rows
        self._keep_seconds = keep_seconds
        self._pruned = float("-inf")
        self._stored = Counter("moonpool_monitoring_records", "Request records stored", registry=metrics)
        self._broken = Counter(
            "moonpool_monitoring_broken_records", "Events that are no request record", registry=metrics
        )

    async def run(self) -> None:
        """For ever. Raises Unavailable when the log or the database is away: to be started again."""
        async with self._events.consumer(TOPIC, GROUP) as consumer:
            while True:
                await self.collect(consumer, wait=1.0)
                await self.prune()

    async def collect(self, consumer: Consumer, *, wait: float) -> None:
        """One batch: committed after it was stored, hence stored at least once."""
        delivered = await consumer.poll(limit=500, wait=wait)
        if not delivered:
            return
        records = [record for event in delivered if (record := self._decode(event)) is not None]
        if records:
            await self._store.add(records)
            self._stored.inc(len(records))
        await consumer.commit()

    async def prune(self) -> None:
        """Every PRUNE_EVERY seconds, forget what is beyond the retention."""
        now = self._clock.monotonic()
        if now - self._pruned < PRUNE_EVERY:
            return
        self._pruned = now
        await self._store.prune(before=self._clock.time() - self._keep_seconds, keep=self._keep_rows)

    def _decode(self, delivered: Delivered) -> RequestRecord | None:
        """None for what no gateway of ours wrote: it must not stop the records behind it."""
        try:
            return _record.decode(delivered.event.value)
        except msgspec.DecodeError as error:
            self._broken.inc()
            self._log.warning("not a request record", offset=delivered.offset, error=str(error))
            return None
