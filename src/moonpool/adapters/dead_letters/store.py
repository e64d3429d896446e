"""Dead letters in a relational database (SQLite or PostgreSQL, through ports.database)."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.adapters.dead_letters.intake import Intake
from moonpool.adapters.dead_letters.room import Room
from moonpool.adapters.dead_letters.sealing import Seal
from moonpool.core.errors import Overloaded
from moonpool.ports.database import Database
from moonpool.ports.dead_letters import Letter, Note, RouteName, State, Which

MAXIMUM_BYTES = 256 * 1024 * 1024
MAXIMUM_LETTERS = 20_000
_OVERHEAD = 512
"""About what a row takes beside its content."""

letters = Table(
    "letters",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("dedupe", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("deferred", Boolean, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("next_at", Double, nullable=False),
    Column("leased_until", Double, nullable=False),
    Column("size", Integer, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
c = letters.c
_NOTE = [c[name] for name in Note.__struct_fields__]


class DatabaseDeadLetters:
    """Implements ports.dead_letters.DeadLetters. `keys` as Seal has them."""

    def __init__(
        self,
        database: Database,
        keys: Sequence[bytes],
        *,
        maximum_bytes: int = MAXIMUM_BYTES,
        maximum_letters: int = MAXIMUM_LETTERS,
    ) -> None:
        self._database = database
        self._seal = Seal(keys)
        self._maximum_bytes = maximum_bytes
        self._maximum_letters = maximum_letters
        self._intake = Intake(self._write)

    async def start(self) -> None:
        await self._database.start()

    async def stop(self) -> None:
        """What is being written is still written."""
        await self._intake.idle()
        await self._database.stop()

    async def put(self, letter: Letter) -> Note:
        """Those that come while another is being written are written together: an outage brings many."""
        return await self._intake.put(letter)

    async def get(self, id: str) -> Letter | None:
        async with self._database.snapshot() as connection:
            row = (await connection.execute(select(letters).where(c.id == id))).first()
        return None if row is None else self._open(row)

    async def page(
        self, which: Which, *, limit: int, after: str = "", oldest: bool = False
    ) -> Sequence[Note]:
        query = select(*_NOTE).where(_conditions(which))
        if after:
            query = query.where(c.id > after if oldest else c.id < after)
        query = query.order_by(c.id.asc() if oldest else c.id.desc()).limit(limit)
        async with self._database.snapshot() as connection:
            return [_note(row) for row in (await connection.execute(query)).all()]

    async def claim(self, id: str, *, now: float, until: float) -> Letter | None:
        free = and_(c.id == id, c.state != State.ANSWERED.value, c.leased_until <= now)
        async with self._database.transaction() as connection:
            taken = await connection.execute(update(letters).where(free).values(leased_until=until))
            if taken.rowcount != 1:
                return None
            row = (await connection.execute(select(letters).where(c.id == id))).one()
        return self._open(row)

    async def due(
        self, *, now: float, limit: int, without: Collection[str] = (), off: Collection[RouteName] = ()
    ) -> Sequence[Note]:
        others = c.service.not_in(sorted(without)) if without else true()
        on = [or_(c.method != method, c.route != route) for method, route in sorted(off)]
        ready = and_(c.state == State.WAITING.value, c.next_at <= now, c.leased_until <= now, others, *on)
        query = select(*_NOTE).where(ready).order_by(c.next_at, c.id).limit(limit)
        async with self._database.snapshot() as connection:
            return [_note(row) for row in (await connection.execute(query)).all()]

    async def renew(self, id: str, *, held: float, until: float) -> bool:
        mine = and_(c.id == id, c.leased_until == held)
        async with self._database.transaction() as connection:
            renewed = await connection.execute(update(letters).where(mine).values(leased_until=until))
            return renewed.rowcount == 1

    async def settle(self, letter: Letter) -> bool:
        content = self._seal.seal(letter)
        note = letter.note
        values = {
            "state": note.state.value,
            "cause": note.cause,
            "attempts": note.attempts,
            "updated_at": note.updated_at,
            "next_at": note.next_at,
            "leased_until": 0.0,
            "size": len(content) + _OVERHEAD,
            "key_id": self._seal.key_id,
            "content": content,
        }
        async with self._database.transaction() as connection:
            mine = and_(c.id == note.id, c.leased_until == note.leased_until)
            settled = await connection.execute(update(letters).where(mine).values(values))
            return settled.rowcount == 1

    async def hasten(self, service: str, *, now: float) -> int:
        waiting = and_(c.state == State.WAITING.value, c.service == service, c.next_at > now)
        async with self._database.transaction() as connection:
            return (await connection.execute(update(letters).where(waiting).values(next_at=now))).rowcount

    async def purge(self, which: Which) -> int:
        async with self._database.transaction() as connection:
            return (await connection.execute(delete(letters).where(_conditions(which)))).rowcount

    async def retain(self, *, answered_before: float, dead_before: float) -> int:
        old = or_(
            and_(c.state == State.ANSWERED.value, c.updated_at < answered_before),
            and_(c.state == State.DEAD.value, c.updated_at < dead_before),
            and_(c.state == State.WAITING.value, c.created_at < dead_before),
        )
        async with self._database.transaction() as connection:
            return (await connection.execute(delete(letters).where(old))).rowcount

    async def count(self, which: Which) -> int:
        async with self._database.snapshot() as connection:
            query = select(func.count()).select_from(letters).where(_conditions(which))
            return int((await connection.execute(query)).scalar_one())

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    async def _write(self, arrived: Sequence[Letter]) -> list[Note | Overloaded]:
        """One transaction; a verdict for each."""
        verdicts: list[Note | Overloaded] = []
        rows: list[dict[str, object]] = []
        async with self._database.transaction() as connection:
            names = [self._seal.name(letter.note.dedupe) for letter in arrived]
            query = select(*_NOTE).where(c.dedupe.in_(names))
            known = {row.dedupe: _note(row) for row in (await connection.execute(query)).all()}
            room = await self._room(connection)
            for letter, name in zip(arrived, names, strict=True):
                note = known.get(name)
                if note is None:
                    content = self._seal.seal(letter)
                    note = msgspec.structs.replace(letter.note, dedupe=name, size=len(content) + _OVERHEAD)
                    refusal = room.take(note)
                    if refusal is not None:
                        verdicts.append(refusal)
                        continue
                    known[name] = note
                    rows.append({**_columns(note), "key_id": self._seal.key_id, "content": content})
                verdicts.append(note)
            if rows:
                await connection.execute(insert(letters), rows)
        return verdicts

    async def _room(self, connection: AsyncConnection) -> Room:
        query = select(c.tenant, func.count(), func.coalesce(func.sum(c.size), 0)).group_by(c.tenant)
        used = {row[0]: (int(row[1]), int(row[2])) for row in (await connection.execute(query)).all()}
        return Room(used, maximum_bytes=self._maximum_bytes, maximum_letters=self._maximum_letters)

    def _open(self, row: Row[Any]) -> Letter:
        return self._seal.open(_note(row), row.key_id, row.content)


def _columns(note: Note) -> dict[str, object]:
    return {**msgspec.structs.asdict(note), "state": note.state.value}


def _note(row: Row[Any]) -> Note:
    fields = {name: getattr(row, name) for name in Note.__struct_fields__}
    return Note(**{**fields, "state": State(row.state), "deferred": bool(row.deferred)})


def _conditions(which: Which) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [true()]
    equal = {
        "id": which.id,
        "tenant": which.tenant,
        "service": which.service,
        "route": which.route,
        "cause": which.cause,
    }
    conditions += [c[name] == value for name, value in equal.items() if value]
    if which.states:
        conditions.append(c.state.in_([state.value for state in which.states]))
    if which.before is not None:
        conditions.append(c.created_at < which.before)
    return and_(*conditions)
