"""The last good answers of GET routes, for the fallbacks of services that are down. Bounded, in memory.

An answer is kept under who asked and what was asked: tenant, user, role, scopes and key of the principal
are part of its key, so that nobody is ever given what was said to another. A successful write makes the
organisation's answers about that resource, its parents and what is below it too old (RFC 9111 §4.4), so that
what was deleted does not come back while the service is away.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from moonpool.contracts.fallback import Known
from moonpool.contracts.manifest import Remember
from moonpool.core.body import Outcome, Stream
from moonpool.core.clock import Clock
from moonpool.core.context import Context
from moonpool.core.message import Request, Response, ResponseHeaders
from moonpool.middleware.changes import Changes

CAPACITY = 16 * 1024 * 1024
"""Bytes of bodies."""
LARGEST = 512 * 1024
"""Bytes of one body."""
MAX_AGE = 24 * 3600.0
"""Seconds; the same as known API keys are taken without the auth service."""
KEPT = frozenset(
    {b"content-type", b"content-disposition", b"content-language", b"etag", b"last-modified", b"link"}
    | {b"content-security-policy", b"x-content-type-options", b"referrer-policy", b"x-frame-options"}
)
"""Header fields that describe the content; the others were about that one answer."""
PARTIAL = frozenset({b"range", b"if-none-match", b"if-modified-since"})
RENEW = 1.0
"""Seconds for which what was remembered is not remembered anew: a busy route costs a look-up."""

Who = tuple[Hashable, ...]
_EVERYONE: Who = ()


class _Entry:
    __slots__ = ("known", "number", "path", "tenant", "who")

    def __init__(self, tenant: str, who: Who, path: str, known: Known, number: int) -> None:
        self.tenant = tenant
        self.who = who
        self.path = path
        self.known = known
        self.number = number

    @property
    def size(self) -> int:
        return len(self.known.body) + 512  # and about what its key and headers take


class LastKnownMemory:
    """Implements contracts.fallback.LastKnown; `learn` and `changed` are the fallback filter's."""

    def __init__(self, clock: Clock, *, capacity: int = CAPACITY, largest: int = LARGEST) -> None:
        self._clock = clock
        self._capacity = capacity
        self._largest = largest
        self._size = 0
        self._entries: OrderedDict[tuple[Who, str, str], _Entry] = OrderedDict()
        self._latest: dict[tuple[Who, str], tuple[Who, str, str]] = {}
        self._changes = Changes()

    # ── for fallbacks ──────────────────────────────────────────────────────────────────────────────

    def get(self, ctx: Context, request: Request) -> Known | None:
        who = _who(ctx)
        return None if who is None else self._find((who, request.path, request.query))

    def latest(self, ctx: Context, path: str) -> Known | None:
        for who in (_caller(ctx), _EVERYONE):
            key = None if who is None else self._latest.get((who, path))
            known = None if key is None else self._find(key)
            if known is not None:
                return known
        return None

    # ── for the filter ─────────────────────────────────────────────────────────────────────────────

    def learn(self, ctx: Context, request: Request, response: Response) -> None:
        """Remember `response` when it is complete. It must be one to a GET of a remembered route."""
        who = _who(ctx)
        if who is None or response.status != 200 or request.method != "GET":
            return
        entry = self._entries.get((who, request.path, request.query))
        if entry is not None and entry.number == self._changes.now and self._is_new(entry):
            return
        if not PARTIAL.isdisjoint(request.headers):
            return
        headers = [field for field in response.headers if field[0] in KEPT]
        asked = _Asked(
            ctx.principal.tenant if who else "", who, request.path, request.query, self._changes.now
        )
        body = response.body
        if not isinstance(body, Stream):
            self._store(asked, headers, body)
            return
        copy = _Copy(self._largest)
        body.transform(copy)

        def settled(outcome: Outcome, error: Exception | None) -> None:
            if outcome is Outcome.COMPLETED and not copy.overflown:
                self._store(asked, headers, b"".join(copy.pieces))

        body.on_settled(settled)

    def changed(self, ctx: Context, request: Request) -> None:
        """The caller's write succeeded: what its organisation knew about it is no longer true."""
        self._changes.write(ctx.principal.tenant, request.path)

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    def _is_new(self, entry: _Entry) -> bool:
        return 0.0 <= self._clock.time() - entry.known.at < RENEW

    def _find(self, key: tuple[Who, str, str]) -> Known | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        too_old = self._clock.time() - entry.known.at > MAX_AGE
        if too_old or self._changes.since(entry.tenant, entry.path, entry.number):
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.known

    def _store(self, asked: "_Asked", headers: ResponseHeaders, body: bytes) -> None:
        if len(body) > self._largest:
            return
        key = (asked.who, asked.path, asked.query)
        self._drop(key)
        known = Known(headers=headers, body=body, at=self._clock.time())
        entry = _Entry(asked.tenant, asked.who, asked.path, known, asked.number)
        self._entries[key] = entry
        self._latest[asked.who, asked.path] = key
        self._size += entry.size
        while self._size > self._capacity:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: tuple[Who, str, str]) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self._size -= entry.size
        if self._latest.get((entry.who, entry.path)) == key:
            del self._latest[entry.who, entry.path]


class _Asked(NamedTuple):
    """What an answer will be kept under. `number` is from before its body ends: a write in between counts."""

    tenant: str
    who: Who
    path: str
    query: str
    number: int


class _Copy:
    """A transform that keeps a copy up to a limit and changes nothing."""

    __slots__ = ("_left", "overflown", "pieces")

    def __init__(self, limit: int) -> None:
        self._left = limit
        self.overflown = False
        self.pieces: list[bytes] = []

    def chunk(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left >= 0:
            self.pieces.append(data)
        elif not self.overflown:
            self.overflown = True
            self.pieces.clear()
        return data

    def finish(self) -> bytes:
        return b""


def _who(ctx: Context) -> Who | None:
    """Under whom answers of the context's route are kept; None: they are not."""
    remember = ctx.route.remember
    if remember is Remember.EVERYONE:
        return _EVERYONE
    return _caller(ctx) if remember is Remember.CALLER else None


def _caller(ctx: Context) -> Who | None:
    principal = ctx.principal
    if not principal.user or not principal.tenant:
        return None
    return (principal.tenant, principal.user, principal.role, principal.scopes, principal.key)
