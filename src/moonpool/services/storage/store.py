"""What is known about files, in the database. Files belong to a tenant, as at OpenAI to a project."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    Row,
    Table,
    Text,
    delete,
    insert,
    select,
)

from moonpool.core.errors import NotFound
from moonpool.core.principal import Principal
from moonpool.ports.database import Database
from moonpool.services.storage.schema import File, Order

metadata = MetaData()

files = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_details", Text),
    Index("files_of_tenant", "tenant", "id"),
)

_COLUMNS = ("id", "bytes", "created_at", "filename", "purpose", "status", "status_details")


class Store:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, principal: Principal, file: File) -> None:
        row = {name: getattr(file, name) for name in _COLUMNS}
        async with self._database.transaction() as connection:
            await connection.execute(
                insert(files).values(**row, tenant=principal.tenant, user=principal.user)
            )

    async def find(self, tenant: str, id: str) -> File:
        query = select(files).where(files.c.tenant == tenant, files.c.id == id)
        async with self._database.snapshot() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            raise _unknown(id)
        return _file(row)

    async def list(
        self, tenant: str, *, purpose: str | None, limit: int, after: str | None, order: Order
    ) -> tuple[list[File], bool]:
        """By time of upload (ids sort by it), and whether there are more."""
        query = select(files).where(files.c.tenant == tenant)
        if purpose is not None:
            query = query.where(files.c.purpose == purpose)
        if after is not None:
            query = query.where(files.c.id > after if order == "asc" else files.c.id < after)
        query = query.order_by(files.c.id.asc() if order == "asc" else files.c.id.desc())
        async with self._database.snapshot() as connection:
            rows = (await connection.execute(query.limit(limit + 1))).all()
        return [_file(row) for row in rows[:limit]], len(rows) > limit

    async def delete(self, tenant: str, id: str) -> None:
        gone = delete(files).where(files.c.tenant == tenant, files.c.id == id)
        async with self._database.transaction() as connection:
            if (await connection.execute(gone)).rowcount == 0:
                raise _unknown(id)

    async def known(self, ids: Collection[str]) -> set[str]:
        """Those of `ids` that are files, of whomever."""
        query = select(files.c.id).where(files.c.id.in_(list(ids)))
        async with self._database.snapshot() as connection:
            return set((await connection.execute(query)).scalars())


def _file(row: Row[Any]) -> File:
    return File(**{name: getattr(row, name) for name in _COLUMNS})


def _unknown(id: str) -> NotFound:
    return NotFound(f"No such File object: {id[:64]}", param="id", code="file_not_found")
