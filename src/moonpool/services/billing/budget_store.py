"""The queries of keys' budgets, in the transaction or snapshot of the connection they are given."""

from collections.abc import Iterable

import msgspec
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.contracts.budgets import KeyBudget, Period
from moonpool.services.billing.ledger_store import SLICE, put
from moonpool.services.billing.tables import key_budgets, key_spenders, usage_events

Posted = dict[tuple[str, str], int]
"""By source and key."""


class Row(msgspec.Struct, kw_only=True):
    """One row of `key_budgets`, but for `changed`."""

    key: str
    tenant: str
    user: str
    amount: int | None
    period: Period
    since: int
    spent: int


class Place(msgspec.Struct, frozen=True):
    """How far a follower has come. Written as SEQUENCE:KEY."""

    sequence: int = -1
    key: str = ""

    def __str__(self) -> str:
        return f"{self.sequence}:{self.key}"


def parse_place(text: str) -> Place:
    """The beginning for whatever is none."""
    sequence, _, key = text.partition(":")
    return Place(int(sequence), key) if sequence.isdecimal() and len(sequence) < 19 else Place()


async def find(connection: AsyncConnection, keys: Iterable[str]) -> dict[str, Row]:
    """Those of `keys` that have, or had, a budget."""
    wanted, found = sorted(set(keys)), dict[str, Row]()
    for first in range(0, len(wanted), SLICE):
        query = select(key_budgets).where(key_budgets.c.key.in_(wanted[first : first + SLICE]))
        for row in await connection.execute(query):
            found[row.key] = _row(row)
    return found


async def save(connection: AsyncConnection, rows: Iterable[Row], sequence: int) -> None:
    values = [
        {**msgspec.structs.asdict(row), "period": row.period.value, "changed": sequence} for row in rows
    ]
    await put(connection, key_budgets, values)


async def spent_since(connection: AsyncConnection, tenant: str, key: str, since: int) -> int:
    table = usage_events.c
    mine = (table.tenant == tenant) & (table.at >= since) & (table.key == key)
    query = select(func.coalesce(func.sum(table.cost), 0)).where(mine)
    total = (await connection.execute(query)).scalar_one()
    return int(total)  # PostgreSQL's sum of bigint is a numeric


async def add_posted(connection: AsyncConnection, posted: Posted, since: dict[str, int], now: float) -> None:
    """What was posted of the period that began at `since[key]`; what stands there of another one is over."""
    places, before = sorted(posted), dict[tuple[str, str], int]()
    for first in range(0, len(places), SLICE):
        place = tuple_(key_spenders.c.source, key_spenders.c.key)
        query = select(key_spenders).where(place.in_(places[first : first + SLICE]))
        for row in await connection.execute(query):
            if row.since == since[row.key]:
                before[row.source, row.key] = row.posted
    rows = [
        {
            "source": source,
            "key": key,
            "since": since[key],
            "posted": before.get((source, key), 0) + posted[source, key],
            "at": now,
        }
        for source, key in places
    ]
    await put(connection, key_spenders, rows)


async def forget_spenders(connection: AsyncConnection, before: float) -> None:
    """Those that have had nothing posted since."""
    await connection.execute(delete(key_spenders).where(key_spenders.c.at < before))


async def changes(
    connection: AsyncConnection, source: str, place: Place, limit: int
) -> tuple[list[KeyBudget], Place]:
    """Up to `limit` budgets that have changed since `place`, and the place after them."""
    table = key_budgets.c
    mine = (
        (key_spenders.c.key == table.key)
        & (key_spenders.c.since == table.since)
        & (key_spenders.c.source == source)
    )
    query = (
        select(key_budgets, key_spenders.c.posted)
        .select_from(key_budgets.outerjoin(key_spenders, mine))
        .where(
            (table.changed > place.sequence) | ((table.changed == place.sequence) & (table.key > place.key))
        )
        .order_by(table.changed, table.key)
        .limit(limit)
    )
    found = []
    for row in await connection.execute(query):
        period = Period(row.period)
        found.append(KeyBudget(row.key, row.amount, period, row.since, row.spent, row.posted or 0))
        place = Place(row.changed, row.key)
    return found, place


async def page(
    connection: AsyncConnection, tenant: str, user: str | None, after: str | None, limit: int
) -> list[Row]:
    """The newest keys first; `user` None: of all users."""
    table = key_budgets.c
    query = select(key_budgets).where(table.tenant == tenant, table.amount.is_not(None))
    if user is not None:
        query = query.where(table.user == user)
    if after is not None:
        query = query.where(table.key < after)
    return [_row(row) for row in await connection.execute(query.order_by(table.key.desc()).limit(limit))]


def _row(row: object) -> Row:
    values = row._mapping  # type: ignore[attr-defined]
    fields = {name: values[name] for name in Row.__struct_fields__}
    return msgspec.convert(fields, Row)
