"""Dead letters in memory, for tests of what decides about them; tests/contract holds it to the real store."""

import asyncio
from collections.abc import Collection, Sequence

import msgspec

from moonpool.core.errors import Unavailable
from moonpool.core.principal import Principal, Role
from moonpool.ports.dead_letters import Letter, Note, RouteName, Sent, State, Which

OWNER = Principal(user="u1", tenant="t1", key="k1", role=Role.MEMBER)


def make_letter(id: str = "dl_1", **fields: object) -> Letter:
    """`body` and `principal` go into what was sent, the rest into the note."""
    body, principal = fields.pop("body", b"{}"), fields.pop("principal", OWNER)
    note = {
        "id": id,
        "request_id": f"req_{id}",
        "dedupe": f"dedupe {id}",
        "state": State.WAITING,
        "deferred": True,
        "tenant": principal.tenant,
        "user": principal.user,
        "service": "inference",
        "method": "POST",
        "route": "/v1/chat/completions",
        "cause": "upstream_reset",
        "created_at": 1000.0,
        "updated_at": 1000.0,
        "next_at": 1000.0,
    }
    sent = Sent(method="POST", path=str(fields.get("route", note["route"])), body=body, principal=principal)
    return Letter(note=Note(**{**note, **fields}), sent=sent)


class MemoryLetters:
    """`away` makes every call fail; `slow` keeps who claims waiting when the claim is written."""

    def __init__(self) -> None:
        self.letters: dict[str, Letter] = {}
        self.away = False
        self.slow: asyncio.Event | None = None

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the letters are away")

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def put(self, letter: Letter) -> Note:
        self._check()
        for known in self.letters.values():
            if known.note.dedupe == letter.note.dedupe:
                return known.note
        self.letters[letter.note.id] = letter
        return letter.note

    async def get(self, id: str) -> Letter | None:
        self._check()
        return self.letters.get(id)

    async def page(
        self, which: Which, *, limit: int, after: str = "", oldest: bool = False
    ) -> Sequence[Note]:
        self._check()
        notes = sorted((n for n in self._notes(which)), key=lambda note: note.id, reverse=not oldest)
        return [n for n in notes if not after or (n.id > after if oldest else n.id < after)][:limit]

    async def claim(self, id: str, *, now: float, until: float) -> Letter | None:
        self._check()
        letter = self.letters.get(id)
        if letter is None or letter.note.state is State.ANSWERED or letter.note.leased_until > now:
            return None
        self._change(letter, leased_until=until)
        if self.slow is not None:
            await self.slow.wait()
        return self.letters[id]

    async def due(
        self, *, now: float, limit: int, without: Collection[str] = (), off: Collection[RouteName] = ()
    ) -> Sequence[Note]:
        self._check()
        ready = [
            note
            for note in self._notes(Which(states=(State.WAITING,)))
            if note.next_at <= now
            and note.leased_until <= now
            and note.service not in without
            and (note.method, note.route) not in off
        ]
        return sorted(ready, key=lambda note: (note.next_at, note.id))[:limit]

    async def renew(self, id: str, *, held: float, until: float) -> bool:
        self._check()
        letter = self.letters.get(id)
        if letter is None or letter.note.leased_until != held:
            return False
        self._change(letter, leased_until=until)
        return True

    async def settle(self, letter: Letter) -> bool:
        self._check()
        known = self.letters.get(letter.note.id)
        if known is None or known.note.leased_until != letter.note.leased_until:
            return False
        self._change(letter, leased_until=0.0)
        return True

    async def hasten(self, service: str, *, now: float) -> int:
        self._check()
        late = [n for n in self._notes(Which(states=(State.WAITING,), service=service)) if n.next_at > now]
        for note in late:
            self._change(self.letters[note.id], next_at=now)
        return len(late)

    async def purge(self, which: Which) -> int:
        self._check()
        gone = [note.id for note in self._notes(which)]
        for id in gone:
            del self.letters[id]
        return len(gone)

    async def retain(self, *, answered_before: float, dead_before: float) -> int:
        self._check()
        gone = []
        for id, letter in self.letters.items():
            note = letter.note
            at = note.created_at if note.state is State.WAITING else note.updated_at
            if at < (answered_before if note.state is State.ANSWERED else dead_before):
                gone.append(id)
        for id in gone:
            del self.letters[id]
        return len(gone)

    async def count(self, which: Which) -> int:
        self._check()
        return len(self._notes(which))

    def _change(self, letter: Letter, **fields: object) -> None:
        note = msgspec.structs.replace(letter.note, **fields)
        self.letters[note.id] = msgspec.structs.replace(letter, note=note)

    def _notes(self, which: Which) -> list[Note]:
        return [letter.note for letter in self.letters.values() if _matches(letter.note, which)]


def _matches(note: Note, which: Which) -> bool:
    wanted = {"id": which.id, "tenant": which.tenant, "service": which.service}
    wanted |= {"route": which.route, "cause": which.cause}
    if any(value and getattr(note, name) != value for name, value in wanted.items()):
        return False
    if which.states and note.state not in which.states:
        return False
    return which.before is None or note.created_at < which.before
