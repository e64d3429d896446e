"""Jobs and their events in the database. A job belongs to a tenant; `job` is the whole of it as JSON."""

from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.asgi.once import Once, done_table
from moonpool.contracts.asked import Asked
from moonpool.core.clock import Clock
from moonpool.core.errors import NotFound
from moonpool.core.principal import Principal
from moonpool.ports.database import Database
from moonpool.services.training.schema import Job, JobEvent, Status

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("job", LargeBinary, nullable=False),
    Index("jobs_of_tenant", "tenant", "id"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("job", Text, ForeignKey("jobs.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("created_at", Integer, nullable=False),
    Column("level", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("message", Text, nullable=False),
)

done_requests = done_table(metadata)

_job = msgspec.json.Decoder(Job)


class Store:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self.once = Once(done_requests, database, clock)

    async def add(self, principal: Principal, asked: Asked | None, job: Job, *events: JobEvent) -> Job:
        """Keep the job; or give the one that the same request has made before."""
        row = {"id": job.id, "tenant": principal.tenant, "user": principal.user}
        async with self._database.transaction() as connection:
            before = await self.once.claim(connection, asked, job.id)
            if before is not None:
                return await _find(connection, principal.tenant, before)
            await connection.execute(insert(jobs).values(**row, **_content(job)))
            await _append(connection, job.id, events)
            return job

    async def find(self, tenant: str, id: str) -> Job:
        async with self._database.snapshot() as connection:
            return await _find(connection, tenant, id)

    async def page(self, tenant: str, *, limit: int, after: str | None) -> tuple[list[Job], bool]:
        """The newest first, and whether there are more."""
        query = select(jobs.c.job).where(jobs.c.tenant == tenant)
        if after is not None:
            query = query.where(jobs.c.id < after)
        async with self._database.snapshot() as connection:
            rows = (
                (await connection.execute(query.order_by(jobs.c.id.desc()).limit(limit + 1))).scalars().all()
            )
        return [_job.decode(row) for row in rows[:limit]], len(rows) > limit

    async def move(
        self, tenant: str, id: str, *, among: tuple[Status, ...], to: Job, event: JobEvent
    ) -> bool:
        """Replace the job if its status is one of `among` still; whether it was."""
        change = update(jobs).where(jobs.c.tenant == tenant, jobs.c.id == id, jobs.c.status.in_(among))
        async with self._database.transaction() as connection:
            if (await connection.execute(change.values(**_content(to)))).rowcount == 0:
                return False
            await _append(connection, id, (event,))
            return True

    async def events(
        self, tenant: str, id: str, *, limit: int, after: str | None
    ) -> tuple[list[JobEvent], bool]:
        """The newest first, and whether there are more."""
        c = job_events.c
        query = select(job_events).where(c.job == id)
        async with self._database.snapshot() as connection:
            await _find(connection, tenant, id)
            if after is not None:
                place = select(c.position).where(c.job == id, c.id == after).scalar_subquery()
                query = query.where(c.position < place)
            rows = (await connection.execute(query.order_by(c.position.desc()).limit(limit + 1))).all()
        return [_event(row) for row in rows[:limit]], len(rows) > limit


async def _find(connection: AsyncConnection, tenant: str, id: str) -> Job:
    query = select(jobs.c.job).where(jobs.c.tenant == tenant, jobs.c.id == id)
    found = (await connection.execute(query)).scalar_one_or_none()
    if found is None:
        raise NotFound(f"There is no fine-tuning job '{id[:64]}'.", param="job_id", code="job_not_found")
    return _job.decode(found)


async def _append(connection: AsyncConnection, job: str, events: tuple[JobEvent, ...]) -> None:
    last = select(func.coalesce(func.max(job_events.c.position), 0)).where(job_events.c.job == job)
    position = (await connection.execute(last)).scalar_one()
    for offset, event in enumerate(events, start=1):
        row = {name: getattr(event, name) for name in ("id", "created_at", "level", "type", "message")}
        await connection.execute(insert(job_events).values(job=job, position=position + offset, **row))


def _content(job: Job) -> dict[str, object]:
    return {"status": job.status.value, "job": msgspec.json.encode(job)}


def _event(row: Row[Any]) -> JobEvent:
    names = ("id", "created_at", "level", "type", "message")
    return JobEvent(**{name: getattr(row, name) for name in names})
