"""What a request asks for is done once, however often the request arrives.

    claim ──► None: the first arrival ──► the change    in one transaction, or nothing
      └─────► what the first arrival made: answer from that

A row per request stands in the service's own database, written with the change that it tells of: whoever is
killed has either done both or neither. Rows are kept for longer than a dead letter, which may be replayed as
long as it is there.
"""

import asyncio

from sqlalchemy import Column, Double, Index, MetaData, String, Table, delete, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.asgi.caller import Caller
from moonpool.contracts.asked import Asked
from moonpool.contracts.asked import asked as name
from moonpool.core.clock import Clock
from moonpool.core.errors import Unprocessable
from moonpool.ports.database import Database

KEPT = 15 * 86_400.0
"""Seconds: dead letters are kept for seven days after their last attempt."""
TIDY = 3600.0
"""Seconds between looks for rows that are too old."""
CALM = 60.0
"""Seconds to the first look: a service that starts has better things to do."""


def done_table(metadata: MetaData) -> Table:
    """The table as every service has it whose changes are to be made once; its migration creates the same."""
    return Table(
        "done_requests",
        metadata,
        Column("name", String(64), primary_key=True),
        Column("fingerprint", String(64), nullable=False),
        Column("result", String(200), nullable=False),
        Column("at", Double, nullable=False),
        Index("done_requests_by_age", "at"),
    )


def asked(caller: Caller, body: bytes = b"") -> Asked | None:
    """The request that `caller` makes with `body`."""
    return name(
        tenant=caller.principal.tenant,
        user=caller.principal.user,
        method=caller.method,
        path=caller.path,
        request_id=caller.request_id,
        key=caller.idempotency_key,
        body=body,
    )


class Once:
    """`claim` inside the transaction of the change; `run` in the background."""

    def __init__(self, table: Table, database: Database, clock: Clock) -> None:
        self._table = table
        self._database = database
        self._clock = clock
        # As text: an `insert` of a dialect's own is compiled anew each time, which costs a millisecond.
        names = [column.name for column in table.columns]
        self._insert = text(
            f"INSERT INTO {table.name} ({', '.join(names)}) VALUES (:{', :'.join(names)})"  # noqa: S608 - our own names
            " ON CONFLICT DO NOTHING"
        )

    async def claim(self, connection: AsyncConnection, request: Asked | None, result: str) -> str | None:
        """None for the first arrival, which makes `result` in this transaction, or fails; else what that one
        has made: an id, or several. One that arrives while another's transaction is open waits for it.

        Raises Unprocessable when the name was another request's.
        """
        if request is None:
            return None
        row = {"name": request.name, "fingerprint": request.fingerprint, "result": result}
        if (await connection.execute(self._insert, {**row, "at": self._clock.time()})).rowcount:
            return None
        columns = self._table.c.fingerprint, self._table.c.result
        query = select(*columns).where(self._table.c.name == request.name)
        fingerprint, made = (await connection.execute(query)).one()
        if fingerprint != request.fingerprint:
            raise Unprocessable(
                "this Idempotency-Key was used with another request",
                code="idempotency_key_reused",
                param="idempotency-key",
                hint="Use a new key for each new request.",
            )
        return str(made)

    async def replace(self, connection: AsyncConnection, request: Asked | None, result: str) -> None:
        """Something else stands now for what the first arrival made."""
        if request is not None:
            change = update(self._table).where(self._table.c.name == request.name)
            await connection.execute(change.values(result=result))

    async def forget(self) -> int:
        """Rows that no replay can need any more; how many they were."""
        old = delete(self._table).where(self._table.c.at < self._clock.time() - KEPT)
        async with self._database.transaction() as connection:
            return (await connection.execute(old)).rowcount

    async def run(self) -> None:
        """For ever."""
        await asyncio.sleep(CALM)
        while True:
            await self.forget()
            await asyncio.sleep(TIDY)
