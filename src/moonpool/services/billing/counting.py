"""The consumer of usage events.

    log ──poll──► decode ──► one transaction (new ids, what they cost, rejected) ──commit──► the log's offset

The offset is committed after the transaction: killed in between, the events come again and their ids
are there. What cannot be decoded is kept beside and never stops the others. While log or database are
away the consumer leaves its group and tries again, for ever; nothing is lost, it waits in the log.
"""

import asyncio
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from moonpool.asgi.background import Backoff
from moonpool.contracts.money import cost_of
from moonpool.contracts.usage import TOPIC, UsageEvent
from moonpool.core.clock import Clock
from moonpool.core.errors import MoonpoolError, Unavailable
from moonpool.ports.database import Database
from moonpool.ports.events import Consumer, Delivered, EventLog
from moonpool.services.billing import store
from moonpool.services.billing.decode import Unreadable, decode
from moonpool.services.billing.posting import Posting

GROUP = "billing"
BATCH = 8
"""The log's events taken at once; each may carry hundreds of usage events."""
SLICE = 500
"""Usage events a statement: between statements others get at the database's thread."""
LOOK = 5.0
"""Seconds between looks at the lag."""


class Counting:
    def __init__(
        self,
        *,
        database: Database,
        events: EventLog,
        clock: Clock,
        log: FilteringBoundLogger,
        metrics: CollectorRegistry,
        posting: Posting | None = None,
    ) -> None:
        """Without `posting` (tests of counting alone) nothing is charged."""
        self._database = database
        self._events = events
        self._clock = clock
        self._log = log
        self._posting = posting
        self._trouble = ""
        self.settled = False
        """Whether the log had nothing left to count when it was looked at last."""
        self._counted = Counter(
            "moonpool_billing_events", "Usage events taken from the log", ["result"], registry=metrics
        )
        for result in ("stored", "duplicate", "rejected"):
            self._counted.labels(result)
        self._lag = Gauge(
            "moonpool_billing_lag_events", "Usage events in the log that are not stored", registry=metrics
        )

    async def check(self) -> None:
        """A readiness check: raises Unavailable while events wait in the log."""
        if self._trouble:
            raise Unavailable(f"usage waits in the log: {self._trouble}")

    async def run(self) -> None:
        """Consume for ever."""
        backoff = Backoff()
        while True:
            try:
                async with self._events.consumer(TOPIC, GROUP) as consumer:
                    while True:
                        await self._step(consumer)
                        self._trouble = ""
                        backoff.reset()
            except MoonpoolError as error:
                self._trouble = error.message
                self._log.warning("usage is not being stored", reason=self._trouble)
                await asyncio.sleep(backoff.next())

    async def watch_lag(self) -> None:
        """Keep the lag's gauge current, for ever."""
        while True:
            try:
                lag = await self._events.lag(TOPIC, GROUP)
                self._lag.set(lag)
                self.settled = lag == 0 and not self._trouble
            except Unavailable:
                self.settled = False
                self._log.debug("the lag is not known while the log is away")
            await asyncio.sleep(LOOK)

    async def _step(self, consumer: Consumer) -> None:
        delivered = await consumer.poll(limit=BATCH)
        if delivered:
            await self.store(delivered)
            await consumer.commit()

    async def _add(self, connection: AsyncConnection, events: Sequence[UsageEvent], now: float) -> int:
        if self._posting is not None and any(map(cost_of, events)):
            await self._posting.post(connection, events)
        return await store.add_events(connection, events, now)

    async def store(self, delivered: Sequence[Delivered]) -> None:
        """Store a batch, all of it or nothing."""
        events: list[UsageEvent] = []
        rejected: list[store.Rejected] = []
        for each in delivered:
            for number, line in enumerate(each.event.value.split(b"\n")):
                try:
                    events.append(decode(line))
                except Unreadable as error:
                    rejected.append(store.Rejected(each, number, line, str(error)))
        now = self._clock.time()
        stored, costs = 0, self._posting is not None and any(map(cost_of, events))
        async with self._database.transaction() as connection:
            for first in range(0, len(events), SLICE):
                stored += await self._add(connection, events[first : first + SLICE], now)
            refused = await store.add_rejected(connection, rejected, now)
        if costs and self._posting is not None:
            self._posting.tell()
        self._counted.labels("stored").inc(stored)
        self._counted.labels("duplicate").inc(len(events) - stored)
        self._counted.labels("rejected").inc(refused)
        for each_rejected in rejected:
            place = each_rejected.delivered
            self._log.error(
                "usage event rejected",
                reason=each_rejected.reason,
                id=place.event.id,
                partition=place.partition,
                offset=place.offset,
                line=each_rejected.line,
            )
