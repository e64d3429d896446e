"""What the manager keeps: upgrades with their states, evidence, history.

A state is kept together with the entry of the history that tells of it, in one transaction, before it is
acted on. Two managers (one that is just being replaced) cannot both write: each write names the version
that it follows.
"""

from collections.abc import Mapping

import msgspec
from sqlalchemy import ColumnElement, Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.contracts.upgrades import EventView, UpgradePlan
from moonpool.core.clock import Clock
from moonpool.core.errors import BadRequest, Conflict, NotFound
from moonpool.ports.database import Database
from moonpool.upgrade.state import State
from moonpool.upgrade.strategies import Course
from moonpool.upgrade.tables import events, evidence, upgrades

_encode = msgspec.json.Encoder().encode
MANAGER = "manager"


class Upgrade(msgspec.Struct, frozen=True, kw_only=True):
    """One upgrade as it is kept."""

    id: str
    service: str
    state: State
    course: Course
    plan: UpgradePlan
    reason: str
    started_by: str
    started_at: float
    ended_at: float | None = None
    version: int = 1


class Overtaken(Conflict):
    """Somebody else has written a newer state: read again."""


class Store:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def begin(self, upgrade: Upgrade) -> Upgrade:
        """Keep a new upgrade. Raises Conflict when the service has one that runs."""
        row = {**_row(upgrade), "id": upgrade.id, "service": upgrade.service, "active": upgrade.service}
        row |= {"course": _encode(upgrade.course), "plan": _encode(upgrade.plan)}
        row |= {"reason": upgrade.reason, "started_by": upgrade.started_by, "started_at": upgrade.started_at}
        what = f"{upgrade.course.strategy} from {upgrade.course.old} to {upgrade.course.new} started"
        try:
            async with self._database.transaction() as connection:
                await connection.execute(insert(upgrades).values(**row))
                await self._tell(connection, upgrade, upgrade.started_by, what, upgrade.reason, {})
        except IntegrityError:
            raise Conflict(
                f"{upgrade.service} is being upgraded already",
                code="upgrade_running",
                hint=f"Wait for its end, or `moonpool upgrade abort {upgrade.service}`.",
            ) from None
        return upgrade

    async def keep(
        self, upgrade: Upgrade, state: State, *, who: str, what: str, evidence: Mapping[str, str]
    ) -> Upgrade:
        """The upgrade with its next state; `what` "" tells nothing in the history.

        Raises Overtaken when `upgrade` is not the newest version.
        """
        ended = self._clock.time() if state.ended else None
        after = msgspec.structs.replace(upgrade, state=state, version=upgrade.version + 1, ended_at=ended)
        async with self._database.transaction() as connection:
            changed = await connection.execute(
                update(upgrades)
                .where(upgrades.c.id == upgrade.id, upgrades.c.version == upgrade.version)
                .values(**_row(after), active=None if state.ended else upgrade.service)
            )
            if changed.rowcount != 1:
                raise Overtaken(f"upgrade {upgrade.id} has changed meanwhile", code="overtaken")
            if what:
                await self._tell(connection, upgrade, who, what, state.reason, evidence)
        return after

    async def active(self) -> list[Upgrade]:
        return await self._select(upgrades.c.active.is_not(None))

    async def find(self, id: str) -> Upgrade:
        """Raises NotFound."""
        found = await self._select(upgrades.c.id == id)
        if not found:
            raise NotFound(
                f"there is no upgrade {id!r}",
                code="unknown_upgrade",
                hint="`moonpool upgrade status` lists them.",
            )
        return found[0]

    async def last(self, service: str) -> Upgrade | None:
        """The service's newest upgrade, be it running or ended."""
        found = await self._select(upgrades.c.service == service, limit=1)
        return found[0] if found else None

    async def page(self, service: str, after: str, limit: int) -> tuple[list[Upgrade], bool]:
        """The newest first; `service` "" for all."""
        condition = upgrades.c.id < after if after else upgrades.c.id != ""
        if service:
            condition &= upgrades.c.service == service
        found = await self._select(condition, limit=limit + 1)
        return found[:limit], len(found) > limit

    async def history(
        self, *, service: str = "", upgrade: str = "", after: str = "", limit: int = 100
    ) -> tuple[list[EventView], bool]:
        """The newest first."""
        query = select(events).order_by(events.c.sequence.desc()).limit(limit + 1)
        for column, value in ((events.c.service, service), (events.c.upgrade, upgrade)):
            query = query.where(column == value) if value else query
        query = query.where(events.c.sequence < _sequence(after)) if after else query
        async with self._database.snapshot() as connection:
            rows = (await connection.execute(query)).all()
        return [_event(row) for row in rows[:limit]], len(rows) > limit

    async def save_evidence(self, upgrade: str, value: bytes) -> None:
        at = self._clock.time()
        async with self._database.transaction() as connection:
            changed = await connection.execute(
                update(evidence).where(evidence.c.upgrade == upgrade).values(value=value, at=at)
            )
            if changed.rowcount == 0:
                await connection.execute(insert(evidence).values(upgrade=upgrade, value=value, at=at))

    async def load_evidence(self, upgrade: str) -> bytes | None:
        async with self._database.snapshot() as connection:
            query = select(evidence.c.value).where(evidence.c.upgrade == upgrade)
            return (await connection.execute(query)).scalar_one_or_none()

    async def _select(self, condition: ColumnElement[bool], limit: int = 1000) -> list[Upgrade]:
        query = select(upgrades).where(condition).order_by(upgrades.c.id.desc()).limit(limit)
        async with self._database.snapshot() as connection:
            return [_upgrade(row) for row in (await connection.execute(query)).all()]

    async def _tell(
        self,
        connection: AsyncConnection,
        upgrade: Upgrade,
        who: str,
        what: str,
        why: str,
        found: Mapping[str, str],
    ) -> None:
        row = {"upgrade": upgrade.id, "service": upgrade.service, "who": who, "what": what, "why": why}
        await connection.execute(
            insert(events).values(**row, at=self._clock.time(), evidence=_encode(dict(found)))
        )


def _row(upgrade: Upgrade) -> dict[str, object]:
    return {"state": _encode(upgrade.state), "version": upgrade.version, "ended_at": upgrade.ended_at}


def _upgrade(row: Row[*tuple[object, ...]]) -> Upgrade:
    values = {str(name): value for name, value in row._mapping.items() if name != "active"}
    for name, kind in (("state", State), ("course", Course), ("plan", UpgradePlan)):
        values[name] = msgspec.json.decode(values[name], type=kind)
    return msgspec.convert(values, Upgrade)


def _event(row: Row[*tuple[object, ...]]) -> EventView:
    values = {str(name): value for name, value in row._mapping.items() if name != "sequence"}
    values["evidence"] = msgspec.json.decode(row._mapping["evidence"])
    return msgspec.convert({**values, "id": f"upev_{row._mapping['sequence']:012d}"}, EventView)


def _sequence(id: str) -> int:
    """Raises BadRequest for what is no entry's id."""
    number = id.removeprefix("upev_")
    if not number.isdecimal() or len(number) > 18:
        raise BadRequest(
            f"{id!r} is no entry of the history", param="after", hint="Give the last one's `id`."
        )
    return int(number)
