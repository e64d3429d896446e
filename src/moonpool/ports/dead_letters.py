"""Where requests wait that could not be answered: the dead letter queue.

    put ──► DEAD (an operator decides) ◄───────── given up, or replayed in vain ──┐
       └──► WAITING (the worker tries) ──claim──► at work ──settle──► ANSWERED ───┴──► retained, then deleted

A letter is one request, however often it is sent: `dedupe` names it, and a second one of that name is the
first. Contents are encrypted at rest; what lists and conditions need is not.
"""

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from moonpool.core.principal import Principal

RouteName = tuple[str, str]
"""Method and template."""


class State(StrEnum):
    WAITING = "waiting"
    """Tried again by itself at `next_at`."""
    DEAD = "dead"
    """Waits for a person."""
    ANSWERED = "answered"
    """Over: replaying it again does nothing."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """The request's own bytes, headers without secrets, and in whose name it came."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = {}
    body: bytes = b""
    principal: Principal


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt that failed. `at` is Unix seconds; `status` 0 where nothing was answered."""

    at: float
    status: int
    code: str
    message: str


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What the last attempt gave, the good one or a refusal."""

    status: int
    headers: dict[str, str] = {}
    body: bytes = b""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A letter from outside: all that is known without its key. Times are Unix seconds.

    `deferred`: the client was told that it is done later. `route` is the template. `leased_until` is in
    the future while somebody is at work on it. `size` is bytes at rest.
    """

    id: str
    request_id: str
    dedupe: str
    state: State
    deferred: bool
    tenant: str
    user: str
    service: str
    method: str
    route: str
    cause: str
    attempts: int = 0
    created_at: float
    updated_at: float
    next_at: float = 0.0
    leased_until: float = 0.0
    size: int = 0


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    note: Note
    sent: Sent
    failures: tuple[Failed, ...] = ()
    answer: Answered | None = None


class Which(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions that all hold; "" and None do not count. `before` is of `created_at`."""

    id: str = ""
    tenant: str = ""
    states: tuple[State, ...] = ()
    service: str = ""
    route: str = ""
    cause: str = ""
    before: float | None = None


class DeadLetters(Protocol):
    """Durable. Raises core.errors.Unavailable when the store is away."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def put(self, letter: Letter) -> Note:
        """Keep `letter`, or return the note of the one that has its `dedupe` already.

        Raises Overloaded when the store, or the tenant's share of it, is full.
        """

    async def get(self, id: str) -> Letter | None: ...

    async def page(
        self, which: Which, *, limit: int, after: str = "", oldest: bool = False
    ) -> Sequence[Note]:
        """The newest first, or the oldest; `after` is the id of the last one seen."""

    async def claim(self, id: str, *, now: float, until: float) -> Letter | None:
        """The letter, for the caller alone until `until`; None when it is ANSWERED, gone, or at work."""

    async def due(
        self, *, now: float, limit: int, without: Collection[str] = (), off: Collection[RouteName] = ()
    ) -> Sequence[Note]:
        """WAITING letters whose time has come and nobody is at work on, the longest due first; `without`
        those of these services, and without those of the routes that are `off`."""

    async def renew(self, id: str, *, held: float, until: float) -> bool:
        """Prolong the claim that ends at `held`; False when that is not the letter's any more."""

    async def settle(self, letter: Letter) -> bool:
        """Write what became of a claimed letter, and end the claim, which is known by when it ends
        (`leased_until`). False, and nothing is written, when another has claimed it since. One that was
        purged stays so."""

    async def hasten(self, service: str, *, now: float) -> int:
        """The service is back: what waits for it is due now."""

    async def purge(self, which: Which) -> int:
        """Delete; what somebody is at work on as well."""

    async def retain(self, *, answered_before: float, dead_before: float) -> int:
        """Delete what was answered, or given up, before those times."""

    async def count(self, which: Which) -> int: ...
