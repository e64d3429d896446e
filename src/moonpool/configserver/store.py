"""The config server's queries, in the transaction or snapshot of the connection they are given."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, delete, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.configserver.tables import audit, state, versions
from moonpool.configserver.views import AuditEntry
from moonpool.contracts.documents.wire import Snapshot, Stored

KEPT_VERSIONS = 1000
"""Of each document: the oldest go first. What was done stays in the audit."""

_decoder = msgspec.json.Decoder(dict[str, object])
_encoder = msgspec.json.Encoder()


class State(msgspec.Struct, frozen=True):
    epoch: str
    sequence: int
    file: str


async def read_state(connection: AsyncConnection) -> State | None:
    """None for a database in which nothing was ever written."""
    row = (await connection.execute(select(state.c.epoch, state.c.sequence, state.c.file))).one_or_none()
    return None if row is None else State(row.epoch, row.sequence, row.file)


async def begin_state(connection: AsyncConnection, epoch: str, sequence: int) -> State:
    await connection.execute(insert(state).values(id=1, epoch=epoch, sequence=sequence, file=""))
    return State(epoch, sequence, "")


async def note_file(connection: AsyncConnection, digest: str) -> None:
    await connection.execute(update(state).values(file=digest))


async def raise_sequence(connection: AsyncConnection) -> int:
    """One more. Whoever does this first in a transaction makes all others wait."""
    statement = update(state).values(sequence=state.c.sequence + 1).returning(state.c.sequence)
    return int((await connection.execute(statement)).scalar_one())


async def everything(connection: AsyncConnection) -> Snapshot | None:
    """The newest version of every document; None when nothing was ever written."""
    known = await read_state(connection)
    if known is None:
        return None
    newest = select(versions.c.name, func.max(versions.c.version)).group_by(versions.c.name)
    statement = select(versions).where(tuple_(versions.c.name, versions.c.version).in_(newest))
    rows = (await connection.execute(statement.order_by(versions.c.sequence))).all()
    return Snapshot(
        epoch=known.epoch,
        sequence=known.sequence,
        file=known.file,
        documents=tuple(_stored(row) for row in rows),
    )


async def present_version(connection: AsyncConnection, name: str) -> int:
    """0 when there is none."""
    statement = select(func.max(versions.c.version)).where(versions.c.name == name)
    return int((await connection.execute(statement)).scalar_one() or 0)


async def find(connection: AsyncConnection, name: str, version: int) -> Stored | None:
    statement = select(versions).where(versions.c.name == name, versions.c.version == version)
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else _stored(row)


async def add(connection: AsyncConnection, document: Stored) -> None:
    await connection.execute(
        insert(versions).values(
            name=document.name,
            version=document.version,
            sequence=document.sequence,
            content=_encoder.encode(document.content).decode(),
            author=document.author,
            reason=document.reason,
            at=document.at,
        )
    )
    await connection.execute(
        delete(versions).where(
            versions.c.name == document.name, versions.c.version <= document.version - KEPT_VERSIONS
        )
    )


async def history(connection: AsyncConnection, name: str, before: int | None, limit: int) -> list[Stored]:
    """The newest first, older than version `before`."""
    statement = select(versions).where(versions.c.name == name)
    if before is not None:
        statement = statement.where(versions.c.version < before)
    rows = await connection.execute(statement.order_by(versions.c.version.desc()).limit(limit))
    return [_stored(row) for row in rows]


async def note(connection: AsyncConnection, entry: AuditEntry) -> None:
    fields = msgspec.structs.asdict(entry)
    del fields["id"]
    await connection.execute(insert(audit).values(**fields))


async def audited(
    connection: AsyncConnection, name: str, before: int | None, limit: int
) -> Sequence[AuditEntry]:
    """The newest first, older than the entry `before`; `name` "" is all documents."""
    statement = select(audit)
    if name:
        statement = statement.where(audit.c.name == name)
    if before is not None:
        statement = statement.where(audit.c.id < before)
    rows = await connection.execute(statement.order_by(audit.c.id.desc()).limit(limit))
    return [AuditEntry(**row._mapping) for row in rows]


def _stored(row: Row[Any]) -> Stored:
    return Stored(
        name=row.name,
        version=row.version,
        content=_decoder.decode(row.content),
        author=row.author,
        reason=row.reason,
        at=row.at,
        sequence=row.sequence,
    )
