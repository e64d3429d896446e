"""billing's queries, in the transaction or snapshot of the connection they are given."""

from collections.abc import Sequence
from datetime import date, timedelta

import msgspec
from sqlalchemy import ColumnElement, Row, and_, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.contracts.money import cost, spell
from moonpool.contracts.usage import Bill, TokenPrice, Usage, UsageEvent
from moonpool.ports.events import Delivered
from moonpool.services.billing.schema import Group, GroupTotals, Totals
from moonpool.services.billing.tables import rejected_events, usage_events

_DAY = 86_400
_EPOCH = date(1970, 1, 1)
_KEPT_BYTES = 64 * 1024
"""Of a rejected event's value."""
_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which events: of a tenant, of one of its users or (None) of all, in [after, before)."""

    tenant: str
    user: str | None
    after: float
    before: float


class Rejected(msgspec.Struct, frozen=True):
    """One line of a log's event that is no usage event."""

    delivered: Delivered
    line: int
    value: bytes
    reason: str


_COLUMNS = tuple(column.name for column in usage_events.columns)
_INSERT_SQLITE = str(sqlite.insert(usage_events).on_conflict_do_nothing().compile(dialect=sqlite.dialect()))
_INSERT_POSTGRESQL = (
    postgresql.insert(usage_events)
    .on_conflict_do_nothing(index_elements=[usage_events.c.id])
    .returning(usage_events.c.id)
)


async def add_events(connection: AsyncConnection, events: Sequence[UsageEvent], now: float) -> int:
    """Store those that are not stored yet; how many that were.

    The database itself passes over the ids it knows, be they of this call or another process's of this
    moment. SQLite's driver counts the rows of a batch, and takes them as they are at half of what they
    cost through SQLAlchemy's parameters; PostgreSQL's does not, so it returns the new ids.
    """
    rows = [_row(event, now) for event in events]
    if not rows:
        return 0
    if connection.dialect.name == "sqlite":
        return (await connection.exec_driver_sql(_INSERT_SQLITE, rows)).rowcount
    named = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    return len((await connection.execute(_INSERT_POSTGRESQL, named)).all())


async def unknown(connection: AsyncConnection, events: Sequence[UsageEvent]) -> list[UsageEvent]:
    """Those that are not stored yet, each once: for events that cost something, under the lock of
    `ledger_store.begin`, so that nobody stores one of them in between."""
    first = {event.id: event for event in reversed(events)}
    known = select(usage_events.c.id).where(usage_events.c.id.in_(list(first)))
    for stored in (await connection.execute(known)).scalars():
        del first[stored]
    return [event for event in events if first.get(event.id) is event]


async def add_rejected(connection: AsyncConnection, rejected: Sequence[Rejected], now: float) -> int:
    """Keep those that are not kept yet; how many that were."""
    table, added = rejected_events.c, 0
    for each in rejected:
        delivered, event = each.delivered, each.delivered.event
        place = and_(
            table.topic == delivered.topic,
            table.partition == delivered.partition,
            table.offset == delivered.offset,
            table.line == each.line,
        )
        if (await connection.execute(select(table.offset).where(place))).one_or_none() is not None:
            continue
        row = {
            "topic": delivered.topic,
            "partition": delivered.partition,
            "offset": delivered.offset,
            "line": each.line,
            "event_id": _printable(event.id),
            "key": _printable(event.key),
            "value": each.value[:_KEPT_BYTES],
            "reason": _printable(each.reason),
            "rejected_at": now,
        }
        await connection.execute(insert(rejected_events).values(row))
        added += 1
    return added


async def totals(connection: AsyncConnection, selection: Selection) -> Totals:
    row = (await connection.execute(select(*_sums()).where(_selected(selection)))).one()
    return msgspec.convert(_numbers(row), Totals)


async def group_totals(
    connection: AsyncConnection, selection: Selection, group_by: Sequence[Group], limit: int
) -> list[GroupTotals]:
    """By group: newest day first, then by name."""
    columns = [usage_events.c[group] for group in group_by]
    order = [column.desc() if column is usage_events.c.day else column for column in columns]
    query = select(*columns, *_sums()).where(_selected(selection))
    rows = await connection.execute(query.group_by(*columns).order_by(*order).limit(limit))
    return [msgspec.convert({**_numbers(row), **_names(row, group_by)}, GroupTotals) for row in rows]


async def recent(connection: AsyncConnection, selection: Selection, limit: int) -> list[UsageEvent]:
    """Newest first."""
    query = select(usage_events).where(_selected(selection))
    order = (usage_events.c.at.desc(), usage_events.c.id.desc())
    return [_event(row) for row in await connection.execute(query.order_by(*order).limit(limit))]


async def find(
    connection: AsyncConnection, tenant: str, user: str | None, event_id: str
) -> UsageEvent | None:
    condition = (usage_events.c.id == event_id) & (usage_events.c.tenant == tenant)
    if user is not None:
        condition &= usage_events.c.user == user
    row = (await connection.execute(select(usage_events).where(condition))).one_or_none()
    return None if row is None else _event(row)


def _row(event: UsageEvent, now: float) -> tuple[object, ...]:
    """In the order of the table's columns. Written out: it runs for every request there is."""
    usage = event.usage
    return (
        event.id,
        event.at,
        int(event.at // _DAY),
        event.tenant,
        event.user,
        event.key,
        event.route,
        event.model,
        event.target,
        event.release,
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.completion_tokens,
        usage.reasoning_tokens,
        event.streamed,
        event.outcome,
        event.estimated,
        now,
        *_prices(event),
    )


def _prices(event: UsageEvent) -> tuple[int | None, int | None, int | None, int]:
    if not isinstance(event.bill, Bill):
        return None, None, None, 0
    price = event.bill.price
    return price.prompt, price.cached_prompt, price.completion, cost(event.usage, price)


def _event(row: Row[*tuple[object, ...]]) -> UsageEvent:
    values = row._mapping
    names = [name for name in UsageEvent.__struct_fields__ if name not in ("usage", "bill")]
    usage = Usage(**{name: values[name] for name in Usage.__struct_fields__})
    bill: Bill | msgspec.UnsetType = msgspec.UNSET
    if values["price_prompt"] is not None:
        bill = Bill(TokenPrice(values["price_prompt"], values["price_cached"], values["price_completion"]))
    return UsageEvent(usage=usage, bill=bill, **{name: values[name] for name in names})


def _selected(selection: Selection) -> ColumnElement[bool]:
    table = usage_events.c
    condition = (
        (table.tenant == selection.tenant) & (table.at >= selection.after) & (table.at < selection.before)
    )
    return condition if selection.user is None else condition & (table.user == selection.user)


def _sums() -> list[ColumnElement[int]]:
    sums = [func.coalesce(func.sum(usage_events.c[name]), 0).label(name) for name in (*_TOKENS, "cost")]
    return [func.count().label("requests"), *sums]


def _numbers(row: Row[*tuple[object, ...]]) -> dict[str, int | str]:
    # int(): PostgreSQL's sum of bigint is a numeric.
    numbers = {name: int(row._mapping[name]) for name in ("requests", *_TOKENS)}
    total = numbers["prompt_tokens"] + numbers["completion_tokens"]
    return {**numbers, "total_tokens": total, "cost": spell(int(row._mapping["cost"]))}


def _names(row: Row[*tuple[object, ...]], group_by: Sequence[Group]) -> dict[str, str]:
    names = {group.value: row._mapping[group] for group in group_by}
    if Group.DAY in group_by:
        names["day"] = (_EPOCH + timedelta(days=names["day"])).isoformat()
    return names


def _printable(text: str) -> str:
    return text[:_KEPT_BYTES].replace("\0", "\N{REPLACEMENT CHARACTER}")
