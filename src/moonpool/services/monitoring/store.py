"""Records of requests in the database: a bounded window of the past.

The columns are what lists filter by; `record` is the whole RequestRecord as JSON.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Double,
    Index,
    Insert,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    and_,
    delete,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from moonpool.contracts.requests import RequestRecord
from moonpool.core.errors import NotFound
from moonpool.ports.database import Database
from moonpool.services.monitoring.schema import Filters, RequestLine

SUMMARY_LIMIT = 50_000
"""Most records that a summary looks at, the newest."""

metadata = MetaData()

requests = Table(
    "requests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", Double, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("flags", Text, nullable=False),
    Column("duration_ms", Double, nullable=False),
    Column("first_byte_ms", Double),
    Column("record", LargeBinary, nullable=False),
    Index("requests_recent", "at", "id"),
)

_record = msgspec.json.Decoder(RequestRecord)
_encoder = msgspec.json.Encoder()


class Measure(NamedTuple):
    """What a summary needs of one request."""

    status: int
    duration_ms: float
    first_byte_ms: float | None
    flags: tuple[str, ...]


def _upserts() -> dict[str, Insert]:
    """By dialect: SQLAlchemy has no neutral form of it."""
    lite, postgres = sqlite.insert(requests), postgresql.insert(requests)
    names = [column.name for column in requests.c if column.name != "id"]
    return {
        "sqlite": lite.on_conflict_do_update(
            index_elements=["id"], set_={name: lite.excluded[name] for name in names}
        ),
        "postgresql": postgres.on_conflict_do_update(
            index_elements=["id"], set_={name: postgres.excluded[name] for name in names}
        ),
    }


_UPSERTS = _upserts()


class Store:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, records: Sequence[RequestRecord]) -> None:
        """Adding a record again replaces it: events may come twice."""
        async with self._database.transaction() as connection:
            statement = _UPSERTS[connection.dialect.name]
            await connection.execute(statement, [_row(record) for record in records])

    async def find(self, tenant: str, id: str) -> RequestRecord:
        query = select(requests.c.record).where(_visible(tenant), requests.c.id == id)
        async with self._database.snapshot() as connection:
            record = (await connection.execute(query)).scalar_one_or_none()
        if record is None:
            raise NotFound(
                f"No record of request '{id[:80]}'.",
                code="request_not_found",
                hint="Records arrive within a second; busy gateways keep only a share of the ordinary ones.",
            )
        return _record.decode(record)

    async def recent(
        self, tenant: str, filters: Filters, *, limit: int, after: str | None
    ) -> tuple[list[RequestLine], bool]:
        """The newest first, and whether there are more."""
        c = requests.c
        query = select(c.record).where(_visible(tenant), *_conditions(filters))
        async with self._database.snapshot() as connection:
            if after is not None:
                place = select(c.at).where(_visible(tenant), c.id == after)
                at = (await connection.execute(place)).scalar_one_or_none()
                if at is None:
                    raise NotFound(f"No record of request '{after[:80]}'.", param="after")
                query = query.where(or_(c.at < at, and_(c.at == at, c.id < after)))
            query = query.order_by(c.at.desc(), c.id.desc()).limit(limit + 1)
            records = (await connection.execute(query)).scalars().all()
        return [_line(_record.decode(record)) for record in records[:limit]], len(records) > limit

    async def measures(self, tenant: str, *, since: float) -> list[Measure]:
        c = requests.c
        query = select(c.status, c.duration_ms, c.first_byte_ms, c.flags).where(
            _visible(tenant), c.at >= since
        )
        async with self._database.snapshot() as connection:
            rows = (await connection.execute(query.order_by(c.at.desc()).limit(SUMMARY_LIMIT))).all()
        return [
            Measure(row.status, row.duration_ms, row.first_byte_ms, tuple(row.flags.split(",")[1:-1]))
            for row in rows
        ]

    async def prune(self, *, before: float, keep: int) -> int:
        """Forget what is older than `before`, and all but the newest `keep`; how many they were."""
        at = requests.c.at
        async with self._database.transaction() as connection:
            last = select(at).order_by(at.desc()).offset(keep).limit(1)
            threshold = (await connection.execute(last)).scalar_one_or_none()
            old = at < before if threshold is None else or_(at < before, at <= threshold)
            return (await connection.execute(delete(requests).where(old))).rowcount


def _row(record: RequestRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "at": record.at,
        "tenant": record.tenant,
        "user": record.user,
        "route": record.route,
        "status": record.status,
        "flags": "".join(f",{flag}" for flag in record.flags) + ",",
        "duration_ms": record.duration_ms,
        "first_byte_ms": record.first_byte_ms,
        "record": _encoder.encode(record),
    }


def _line(record: RequestRecord) -> RequestLine:
    names = ("id", "at", "method", "route", "status", "service", "release", "user", "duration_ms", "outcome")
    return RequestLine(**{name: getattr(record, name) for name in names}, flags=list(record.flags))


def _visible(tenant: str) -> ColumnElement[bool]:
    """An organisation's own requests, and those of nobody: refused before anyone was known."""
    return requests.c.tenant.in_(["", tenant])


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    c = requests.c
    conditions: list[ColumnElement[bool]] = []
    if filters.status is not None and filters.status.endswith("xx"):
        low = int(filters.status[0]) * 100
        conditions.append(c.status.between(low, low + 99))
    elif filters.status is not None:
        conditions.append(c.status == int(filters.status))
    if filters.flag is not None:
        conditions.append(c.flags.contains(f",{filters.flag.value},", autoescape=True))
    if filters.route is not None:
        conditions.append(c.route == filters.route)
    if filters.user is not None:
        conditions.append(c.user == filters.user)
    return conditions
