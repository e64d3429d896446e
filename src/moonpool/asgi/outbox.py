"""The transactional outbox: an event that must not be lost is a row of the transaction it tells of.

A background job appends the rows to the event log and removes them afterwards, so an event is told at
least once, in order, however long the log is away and whatever is killed. Consumers recognise
repetitions by the event's id.
"""

import asyncio
from contextlib import suppress

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    func,
    insert,
    select,
)
from sqlalchemy import delete as sql_delete
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from moonpool.asgi.background import Backoff
from moonpool.core.clock import Clock
from moonpool.core.errors import Unavailable
from moonpool.core.ids import new_id
from moonpool.ports.database import Database
from moonpool.ports.events import Event, EventLog

BATCH = 100
POLL = 5.0
"""Seconds between looks at the table, for rows that another instance left behind: one that was killed."""
LAST = 1.0
"""Seconds for the last delivery of an instance that ends."""

SEQUENCE = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only where the column is exactly INTEGER."""


def outbox_table(metadata: MetaData) -> Table:
    """The table as every service with an outbox has it; its migration creates the same."""
    return Table(
        "outbox",
        metadata,
        Column("sequence", SEQUENCE, primary_key=True, autoincrement=True),
        Column("id", String(64), nullable=False),
        Column("topic", String(128), nullable=False),
        Column("key", String(256), nullable=False),
        Column("value", LargeBinary, nullable=False),
        Column("created_at", Double, nullable=False),
    )


class Outbox:
    """`add` inside the transaction, `notify` after it was committed, `run` in the background."""

    def __init__(
        self, table: Table, *, database: Database, events: EventLog, clock: Clock, log: FilteringBoundLogger
    ) -> None:
        self._table = table
        self._database = database
        self._events = events
        self._clock = clock
        self._log = log
        self._wake = asyncio.Event()

    async def add(self, connection: AsyncConnection, *, topic: str, key: str, value: bytes = b"") -> None:
        """Write the event into the transaction of `connection`."""
        row = {"id": new_id("evt", self._clock), "topic": topic, "key": key, "value": value}
        await connection.execute(insert(self._table).values(**row, created_at=self._clock.time()))

    def notify(self) -> None:
        """There is something to deliver; forgetting to call costs POLL seconds, never the event."""
        self._wake.set()

    async def pending(self) -> int:
        async with self._database.snapshot() as connection:
            return (await connection.execute(select(func.count()).select_from(self._table))).scalar_one()

    async def deliver(self) -> int:
        """Append one batch and forget it; how many events that were.

        Raises Unavailable when the log or the database is away: the rows stay.
        """
        async with self._database.snapshot() as connection:
            query = select(self._table).order_by(self._table.c.sequence).limit(BATCH)
            rows = (await connection.execute(query)).all()
        for topic in dict.fromkeys(row.topic for row in rows):
            mine = [row for row in rows if row.topic == topic]
            await self._events.append(topic, [Event(row.id, row.key, row.value) for row in mine])
        if rows:
            sequences = [row.sequence for row in rows]
            async with self._database.transaction() as connection:
                await connection.execute(sql_delete(self._table).where(self._table.c.sequence.in_(sequences)))
        return len(rows)

    async def run(self) -> None:
        """Deliver for ever; waits longer and longer while the log is away. Who is told to end leaves nothing
        behind that another one would have to find."""
        try:
            await self._run()
        except asyncio.CancelledError:
            try:
                async with asyncio.timeout(LAST):
                    while await self.deliver() == BATCH:
                        pass
            except Exception as error:  # noqa: BLE001 - the task's end: it must not go on instead
                self._log.warning("events are left in the outbox", reason=str(error))
            raise

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            self._wake.clear()
            try:
                while await self.deliver() == BATCH:
                    pass
            except Unavailable as error:
                self._log.warning("events wait in the outbox", reason=error.message)
                await asyncio.sleep(backoff.next())
                self._wake.set()
            else:
                backoff.reset()
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._wake.wait()
