"""model's queries, in the transaction or snapshot of the connection they are given."""

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.contracts.catalogue import Model
from moonpool.services.model.layers import Entry
from moonpool.services.model.tables import models, state

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Model)


async def version(connection: AsyncConnection) -> int:
    return int((await connection.execute(select(state.c.version))).scalar_one())


async def raise_version(connection: AsyncConnection) -> int:
    """One more; the new version. Whoever does this first in a transaction makes all others wait."""
    statement = update(state).values(version=state.c.version + 1).returning(state.c.version)
    return int((await connection.execute(statement)).scalar_one())


async def entries(connection: AsyncConnection) -> list[Entry]:
    rows = await connection.execute(select(models).order_by(models.c.id))
    return [
        Entry(
            model=_decoder.decode(row.document),
            source=row.source,
            created_at=row.created_at,
            updated_at=row.updated_at,
            updated_by=row.updated_by,
        )
        for row in rows
    ]


async def put(connection: AsyncConnection, entry: Entry) -> None:
    """Add or replace the entry of that layer."""
    await remove(connection, entry.model.id, entry.source)
    await connection.execute(
        insert(models).values(
            id=entry.model.id,
            source=entry.source,
            document=_encoder.encode(entry.model).decode(),
            created_at=entry.created_at,
            updated_at=entry.updated_at,
            updated_by=entry.updated_by,
        )
    )


async def remove(connection: AsyncConnection, alias: str, source: str) -> bool:
    """Whether there was one."""
    statement = delete(models).where(models.c.id == alias, models.c.source == source)
    return (await connection.execute(statement)).rowcount == 1
