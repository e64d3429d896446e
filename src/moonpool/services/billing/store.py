"""billing's queries, in the transaction or snapshot of the connection they are given."""

from collections.abc import Sequence
from datetime import date, timedelta

import msgspec
from sqlalchemy import ColumnElement, Row, and_, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.contracts.usage import Usage, UsageEvent
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


async def add_events(connection: AsyncConnection, events: Sequence[UsageEvent], now: float) -> int:
    """Store those that are not stored yet; how many that were.

    Raises IntegrityError when another process stores one of them at this moment: then nothing is
    stored, and the next try finds it there.
    """
    by_id: dict[str, UsageEvent] = {}
    for event in events:
        by_id.setdefault(event.id, event)
    if not by_id:
        return 0
    known = await connection.execute(select(usage_events.c.id).where(usage_events.c.id.in_(list(by_id))))
    for row in known:
        del by_id[row.id]
    if by_id:
        await connection.execute(insert(usage_events), [_row(event, now) for event in by_id.values()])
    return len(by_id)


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
    return Totals(**_numbers(row))


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


def _row(event: UsageEvent, now: float) -> dict[str, object]:
    fields = msgspec.structs.asdict(event)
    usage = msgspec.structs.asdict(fields.pop("usage"))
    return {**fields, **usage, "day": int(event.at // _DAY), "stored_at": now}


def _event(row: Row[*tuple[object, ...]]) -> UsageEvent:
    values = row._mapping
    names = [name for name in UsageEvent.__struct_fields__ if name != "usage"]
    usage = Usage(**{name: values[name] for name in Usage.__struct_fields__})
    return UsageEvent(usage=usage, **{name: values[name] for name in names})


def _selected(selection: Selection) -> ColumnElement[bool]:
    table = usage_events.c
    condition = (
        (table.tenant == selection.tenant) & (table.at >= selection.after) & (table.at < selection.before)
    )
    return condition if selection.user is None else condition & (table.user == selection.user)


def _sums() -> list[ColumnElement[int]]:
    sums = [func.coalesce(func.sum(usage_events.c[name]), 0).label(name) for name in _TOKENS]
    return [func.count().label("requests"), *sums]


def _numbers(row: Row[*tuple[object, ...]]) -> dict[str, int]:
    # int(): PostgreSQL's sum of bigint is a numeric.
    numbers = {name: int(row._mapping[name]) for name in ("requests", *_TOKENS)}
    return {**numbers, "total_tokens": numbers["prompt_tokens"] + numbers["completion_tokens"]}


def _names(row: Row[*tuple[object, ...]], group_by: Sequence[Group]) -> dict[str, str]:
    names = {group.value: row._mapping[group] for group in group_by}
    if Group.DAY in group_by:
        names["day"] = (_EPOCH + timedelta(days=names["day"])).isoformat()
    return names


def _printable(text: str) -> str:
    return text[:_KEPT_BYTES].replace("\0", "\N{REPLACEMENT CHARACTER}")
