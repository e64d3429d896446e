"""The ledger's queries, in the transaction or snapshot of the connection they are given."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import msgspec
from sqlalchemy import Table, delete, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.dml import Insert as PostgresqlInsert
from sqlalchemy.dialects.sqlite.dml import Insert as SqliteInsert
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.contracts.balances import Balance
from moonpool.services.billing.ledger import Account, Book, Entry, Kind, Line
from moonpool.services.billing.tables import (
    balances,
    ledger_accounts,
    ledger_clock,
    ledger_entries,
    ledger_lines,
    spenders,
)

SLICE = 400
"""Names in one question: SQLite's older builds take 999 parameters."""
_Row = dict[str, object]
_INSERTS = {
    table.name: str(insert(table).compile(dialect=sqlite.dialect()))
    for table in (ledger_entries, ledger_lines)
}


class Mark(msgspec.Struct, frozen=True):
    """How far a follower has come. Written as EPOCH:SEQUENCE:TENANT."""

    epoch: str = ""
    sequence: int = -1
    tenant: str = ""

    def __str__(self) -> str:
        return f"{self.epoch}:{self.sequence}:{self.tenant}"


def parse_mark(text: str) -> Mark:
    """The beginning for whatever is none."""
    epoch, _, rest = text.partition(":")
    sequence, _, tenant = rest.partition(":")
    if sequence == "-1":  # nothing was there to be told
        return Mark(epoch)
    return Mark(epoch, int(sequence), tenant) if sequence.isdecimal() and len(sequence) < 19 else Mark()


class Found(msgspec.Struct, frozen=True):
    """An entry as it stands in the journal."""

    entry: Entry
    sequence: int


async def begin(connection: AsyncConnection) -> int:
    """The sequence of what this transaction posts. Others who post wait here until it is over, so that
    sequences become visible in their order."""
    query = update(ledger_clock).values(sequence=ledger_clock.c.sequence + 1)
    return cast(int, (await connection.execute(query.returning(ledger_clock.c.sequence))).scalar_one())


async def books(connection: AsyncConnection, tenants: Iterable[str]) -> dict[str, Book]:
    wanted = sorted(set(tenants))
    sums: dict[str, list[tuple[Account, int, int]]] = {tenant: [] for tenant in wanted}
    for first in range(0, len(wanted), SLICE):
        query = select(ledger_accounts).where(ledger_accounts.c.tenant.in_(wanted[first : first + SLICE]))
        for row in await connection.execute(query):
            sums[row.tenant].append((Account(row.account), row.debits, row.credits))
    return {tenant: Book(found) for tenant, found in sums.items()}


async def save(
    connection: AsyncConnection, entries: Sequence[Entry], changed: Mapping[str, Book], sequence: int
) -> None:
    """Write the journal's new entries, and the books that they were posted to."""
    if not entries:
        return
    await _add(connection, ledger_entries, [_row(entry, sequence) for entry in entries])
    lines = [(entry.id, *line) for entry in entries for line in entry.lines]
    await _add(connection, ledger_lines, lines)
    sums = [
        {"tenant": tenant, "account": account, "debits": debits, "credits": credits}
        for tenant, book in changed.items()
        for account, debits, credits in book.sums()
    ]
    await put(connection, ledger_accounts, sums)
    published = [
        {"tenant": tenant, "amount": book.balance, "changed": sequence} for tenant, book in changed.items()
    ]
    await put(connection, balances, published)


async def add_posted(connection: AsyncConnection, posted: Mapping[tuple[str, str], int], now: float) -> None:
    """What was posted, by source and tenant."""
    keys = sorted(posted)
    before: dict[tuple[str, str], int] = {}
    for first in range(0, len(keys), SLICE):
        place = tuple_(spenders.c.source, spenders.c.tenant)
        query = select(spenders).where(place.in_(keys[first : first + SLICE]))
        before |= {(row.source, row.tenant): row.posted for row in await connection.execute(query)}
    rows: list[_Row] = [
        {"source": key[0], "tenant": key[1], "posted": before.get(key, 0) + posted[key], "at": now}
        for key in keys
    ]
    await put(connection, spenders, rows)


async def forget_spenders(connection: AsyncConnection, before: float) -> None:
    """Those that have had nothing posted since."""
    await connection.execute(delete(spenders).where(spenders.c.at < before))


async def changes(
    connection: AsyncConnection, source: str, mark: Mark, limit: int
) -> tuple[list[Balance], Mark]:
    """Up to `limit` balances that have changed since `mark`, and the mark after them."""
    epoch = cast(str, (await connection.execute(select(ledger_clock.c.epoch))).scalar_one())
    if mark.epoch != epoch:
        mark = Mark(epoch)
    mine = (spenders.c.tenant == balances.c.tenant) & (spenders.c.source == source)
    query = (
        select(balances, spenders.c.posted)
        .select_from(balances.outerjoin(spenders, mine))
        .where(
            (balances.c.changed > mark.sequence)
            | ((balances.c.changed == mark.sequence) & (balances.c.tenant > mark.tenant))
        )
        .order_by(balances.c.changed, balances.c.tenant)
        .limit(limit)
    )
    found = []
    for row in await connection.execute(query):
        found.append(Balance(row.tenant, row.amount, row.posted or 0))
        mark = Mark(epoch, row.changed, row.tenant)
    return found, mark


async def find(connection: AsyncConnection, tenant: str, kind: Kind, reference: str) -> Entry | None:
    """The entry that was made for `reference`."""
    table = ledger_entries.c
    place = (table.tenant == tenant) & (table.kind == kind) & (table.reference == reference)
    rows = (await connection.execute(select(ledger_entries).where(place))).all()
    found = await _entries(connection, rows)
    return found[0].entry if found else None


async def entry(connection: AsyncConnection, tenant: str, id: str) -> Entry | None:
    place = (ledger_entries.c.tenant == tenant) & (ledger_entries.c.id == id)
    rows = (await connection.execute(select(ledger_entries).where(place))).all()
    found = await _entries(connection, rows)
    return found[0].entry if found else None


async def journal(
    connection: AsyncConnection, tenant: str, kind: Kind | None, after: str | None, limit: int
) -> list[Found]:
    """Newest first; `after` is the id of an entry."""
    table = ledger_entries.c
    condition = table.tenant == tenant
    if kind is not None:
        condition &= table.kind == kind
    if after is not None:
        place = select(table.sequence).where((table.id == after) & (table.tenant == tenant))
        sequence = (await connection.execute(place)).scalar_one_or_none()
        if sequence is None:
            return []
        condition &= (table.sequence < sequence) | ((table.sequence == sequence) & (table.id < after))
    query = select(ledger_entries).where(condition)
    order = (table.sequence.desc(), table.id.desc())
    return await _entries(connection, (await connection.execute(query.order_by(*order).limit(limit))).all())


async def _entries(connection: AsyncConnection, rows: Sequence[object]) -> list[Found]:
    ids = [row.id for row in rows]  # type: ignore[attr-defined]
    lines: dict[str, list[Line]] = {entry: [] for entry in ids}
    query = select(ledger_lines).where(ledger_lines.c.entry.in_(ids)).order_by(ledger_lines.c.credit)
    for line in await connection.execute(query):
        lines[line.entry].append(Line(Account(line.account), line.debit, line.credit))
    return [_found(row, tuple(lines[entry])) for entry, row in zip(ids, rows, strict=True)]


def _found(row: object, lines: tuple[Line, ...]) -> Found:
    values = dict(row._mapping)  # type: ignore[attr-defined]
    sequence = values.pop("sequence")
    return Found(Entry(**{**values, "kind": Kind(values["kind"])}, lines=lines), sequence)


def _row(entry: Entry, sequence: int) -> tuple[object, ...]:
    """In the order of the table's columns."""
    return (
        entry.id,
        sequence,
        entry.at,
        entry.tenant,
        entry.kind,
        entry.reference,
        entry.author,
        entry.note,
    )


async def _add(connection: AsyncConnection, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
    """SQLite's driver takes rows as they are, at half of what they cost through SQLAlchemy's parameters."""
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql(_INSERTS[table.name], list(rows))
        return
    names = [column.name for column in table.columns]
    await connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])


async def put(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert, or replace what has the same primary key."""
    if not rows:
        return
    build = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement: PostgresqlInsert | SqliteInsert = build(table)
    new = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    statement = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=new)
    await connection.execute(statement, list(rows))
