"""Who writes which running answer, in the database.

    begin ──► streaming, lease = now ──beat every 2 s──► lease = now ──settle──► completed | failed | …
                     ├── no beat for LEASE ──expire (any instance)──► interrupted, partial text kept
                     └── its successor starts ──inherit──► interrupted, partial text kept

An instance that was only slow, not dead, may still settle its answer after it was expired: what it has
is the whole truth about it.
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import ColumnElement, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.contracts.usage import Usage
from moonpool.core.clock import Clock
from moonpool.ports.database import Database
from moonpool.services.chat.schema import ErrorDetail, Status
from moonpool.services.chat.tables import encode, messages

LEASE = 8.0
"""Seconds without a sign of life after which an answer's writer counts as dead."""


class Partial(msgspec.Struct, frozen=True, kw_only=True):
    """What of an answer has arrived."""

    id: str
    content: str
    reasoning: str | None


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer ended."""

    status: Status
    finish_reason: str | None = None
    error: ErrorDetail | None = None
    usage: Usage | None = None


class Leases:
    """The running answers of one instance."""

    def __init__(self, database: Database, clock: Clock, *, instance: str) -> None:
        self._database = database
        self._clock = clock
        self._instance = instance

    async def beat(self, partials: Sequence[Partial]) -> dict[str, Status]:
        """Write what has arrived and renew the leases, in one transaction. Those that shall stop, and as
        what: cancelled through another instance or deleted, or interrupted since it was taken for dead."""
        now = self._clock.time()
        mine = messages.c.instance == self._instance, messages.c.status == Status.STREAMING
        async with self._database.transaction() as connection:
            for partial in partials:
                change = update(messages).where(messages.c.id == partial.id, *mine)
                await connection.execute(
                    change.values(
                        content=partial.content, reasoning=partial.reasoning, lease=now, updated_at=now
                    )
                )
            ids = [partial.id for partial in partials]
            columns = messages.c.id, messages.c.status, messages.c.cancel
            rows = (await connection.execute(select(*columns).where(messages.c.id.in_(ids)))).all()
        verdicts = dict.fromkeys(ids, Status.CANCELLED)  # a row that is gone was deleted by its user
        for row in rows:
            if row.status != Status.STREAMING:
                verdicts[row.id] = Status.INTERRUPTED
            elif not row.cancel:
                del verdicts[row.id]
        return verdicts

    async def settle(self, partial: Partial, ending: Ending) -> None:
        """Write the whole answer and how it ended. Does nothing when the conversation was deleted."""
        now = self._clock.time()
        change = update(messages).where(messages.c.id == partial.id, messages.c.instance == self._instance)
        async with self._database.transaction() as connection:
            await connection.execute(
                change.values(
                    content=partial.content,
                    reasoning=partial.reasoning,
                    status=ending.status.value,
                    finish_reason=ending.finish_reason,
                    error=encode(ending.error),
                    usage=encode(ending.usage),
                    lease=None,
                    updated_at=now,
                )
            )

    async def inherit(self, slot: str) -> int:
        """Mark the answers of those who had our slot before interrupted: they have ended, or we would not
        be here. Sooner than their leases tell: their users may be asking again already. How many."""
        table = messages.c
        theirs = table.instance.startswith(f"{slot}-", autoescape=True), table.instance != self._instance
        async with self._database.transaction() as connection:
            return await _interrupt(connection, self._clock.time(), table.status == Status.STREAMING, *theirs)

    async def sweep(self) -> int:
        """Mark the answers of dead instances interrupted; how many they were."""
        now = self._clock.time()
        async with self._database.snapshot() as connection:
            dead = select(messages.c.id).where(*_dead(now)).limit(1)
            if (await connection.execute(dead)).first() is None:
                return 0
        async with self._database.transaction() as connection:
            return await expire(connection, now)


async def expire(connection: AsyncConnection, now: float, *, conversation: str | None = None) -> int:
    """Mark answers whose lease has run out interrupted, with the text they had."""
    which = [] if conversation is None else [messages.c.conversation == conversation]
    return await _interrupt(connection, now, *_dead(now), *which)


async def _interrupt(connection: AsyncConnection, now: float, *which: ColumnElement[bool]) -> int:
    values = {"status": Status.INTERRUPTED.value, "lease": None, "updated_at": now}
    return (await connection.execute(update(messages).where(*which).values(values))).rowcount


def _dead(now: float) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return messages.c.status == Status.STREAMING, messages.c.lease < now - LEASE
