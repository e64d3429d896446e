"""`Idempotency-Key`: what a client sends twice is done once (draft-ietf-httpapi-idempotency-key-header).

    first time ──► claimed ──► done, its answer kept for a day ──► the same answer again
                     │                                      └────► another payload: 422
                     ├── meanwhile: 409                  fails, is left or degraded ──► free again

A key belongs to a user of an organisation, on one path. Only what succeeded is kept: repeating what failed is
what keys are for. While the store is away requests go on without this promise, and the log says so.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from hashlib import blake2b

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.contracts.manifest import BodyKind, Route
from moonpool.core.body import Outcome, Stream
from moonpool.core.clock import Clock
from moonpool.core.context import Context
from moonpool.core.errors import BadRequest, Conflict, PlatformError, StoreAway, Unprocessable
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response, ResponseHeaders
from moonpool.middleware.copying import Copy
from moonpool.openai.errors import render_error
from moonpool.ports.cache import Cache

KEPT_SECONDS = 24 * 3600.0
LARGEST = 4 * 1024 * 1024
"""Bytes of an answer that is kept."""
LONGEST_KEY = 255
GRACE = 60.0
"""Seconds a claim outlives the route's total time; a process that was killed holds it no longer than that."""
HEADERS = frozenset({b"location", b"link", b"etag", b"last-modified"})
"""Kept besides content-* and x-moonpool-*."""
REAL = frozenset({"", "failover"})
"""Answers that are what was asked for; all others say that they stand in for it."""
NOT_KEPT = frozenset({b"content-length", b"x-moonpool-cache", b"x-moonpool-attempts"})


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`status` 0: not done yet. `kept` tells whether the answer was small enough."""

    fingerprint: bytes
    status: int = 0
    headers: ResponseHeaders = []
    body: bytes = b""
    kept: bool = True


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class Idempotency:
    def __init__(
        self, store: Cache, clock: Clock, log: FilteringBoundLogger, *, largest: int = LARGEST
    ) -> None:
        self._store = store
        self._clock = clock
        self._log = log
        self._largest = largest
        self._tasks: set[asyncio.Task[None]] = set()

    def applies(self, route: Route) -> bool:
        return route.repeatable and route.body is not BodyKind.STREAMED

    def __call__(self, ctx: Context, request: Request, next: Handler) -> Awaitable[Response]:
        value = request.headers.get(b"idempotency-key")
        return next(ctx, request) if value is None else self._named(ctx, request, next, value)

    async def _named(self, ctx: Context, request: Request, next: Handler, value: bytes) -> Response:
        claim = self._claim(ctx, request, _checked(value))
        try:
            before = await claim.make()
        except PlatformError as error:
            ctx.decide("idempotency", "unavailable", error.message)
            if not isinstance(error, StoreAway):
                self._log.warning("idempotency not promised", request_id=ctx.request_id, reason=error.message)
            return await next(ctx, request)
        if before is not None:
            return _again(ctx, before, claim.fingerprint)
        ctx.decide("idempotency", "claim")
        return await self._once(claim, ctx, request, next)

    async def start(self) -> None:
        """A component, for the sake of `stop`."""

    async def stop(self) -> None:
        """Wait for what is still being written."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    def _claim(self, ctx: Context, request: Request, key: bytes) -> "_Claim":
        assert isinstance(request.body, bytes)
        principal = ctx.principal
        who = [principal.tenant, principal.user, request.method, ctx.route.path]
        name = blake2b(_parts(*who) + key, digest_size=24).hexdigest()
        asked = blake2b(_parts(request.path, request.query) + request.body, digest_size=24).digest()
        return _Claim(self._store, f"once:{name}", asked, ctx.route.timeouts.total + GRACE)

    async def _once(self, claim: "_Claim", ctx: Context, request: Request, next: Handler) -> Response:
        try:
            response = await next(ctx, request)
        except BaseException:
            self._spawn(claim.free(), ctx)
            raise
        body = response.body
        if not isinstance(body, Stream):
            if _is_final(ctx, response.status):
                await self._written(claim.keep(response.status, response.headers, self._small(body)), ctx)
            else:
                await self._written(claim.free(), ctx)
            return response
        copy = _Renewing(self._largest, self._clock, claim, lambda work: self._spawn(work, ctx))
        body.transform(copy)

        def settled(outcome: Outcome, error: Exception | None) -> None:
            if outcome is Outcome.COMPLETED and _is_final(ctx, response.status) and _has_end(ctx, copy):
                kept = copy.data if copy.whole else None
                self._spawn(claim.keep(response.status, response.headers, kept), ctx)
            else:
                self._spawn(claim.free(), ctx)

        body.on_settled(settled)
        return response

    def _small(self, body: bytes) -> bytes | None:
        return body if len(body) <= self._largest else None

    async def _written(self, work: Coroutine[None, None, None], ctx: Context) -> None:
        try:
            await work
        except StoreAway:
            pass  # its connection has told of it
        except PlatformError as error:
            self._log.warning("answer not kept", request_id=ctx.request_id, reason=error.message)

    def _spawn(self, work: Coroutine[None, None, None], ctx: Context) -> None:
        task = asyncio.get_running_loop().create_task(self._written(work, ctx))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Claim:
    """One key, on its way from claimed to kept or free. Writes follow each other in order."""

    def __init__(self, store: Cache, name: str, fingerprint: bytes, seconds: float) -> None:
        self._store = store
        self._name = name
        self._order = asyncio.Lock()
        self._over = False
        self.fingerprint = fingerprint
        self.seconds = seconds

    async def make(self) -> Record | None:
        """None when it is ours now; else what is there of it."""
        value = _encode(Record(self.fingerprint))
        while not await self._store.add(self._name, value, ttl=self.seconds):
            there = await self._store.get(self._name)
            if there is not None:  # else it has expired in between
                return _decode(there)
        return None

    async def renew(self) -> None:
        async with self._order:
            if not self._over:
                await self._store.set(self._name, _encode(Record(self.fingerprint)), ttl=self.seconds)

    async def keep(self, status: int, headers: ResponseHeaders, body: bytes | None) -> None:
        """`body` None: it was too large."""
        named = [field for field in headers if _is_kept(field[0])]
        record = Record(self.fingerprint, status, named, body or b"", body is not None)
        async with self._order:
            self._over = True
            await self._store.set(self._name, _encode(record), ttl=KEPT_SECONDS)

    async def free(self) -> None:
        async with self._order:
            self._over = True
            await self._store.delete(self._name)


class _Renewing(Copy):
    """Copies, and renews the claim while the stream runs, however long that is."""

    __slots__ = ("_claim", "_clock", "_renew_at", "_spawn")

    def __init__(
        self, limit: int, clock: Clock, claim: _Claim, spawn: Callable[[Coroutine[None, None, None]], None]
    ) -> None:
        super().__init__(limit)
        self._clock = clock
        self._claim = claim
        self._spawn = spawn
        self._renew_at = clock.monotonic() + claim.seconds / 3

    def chunk(self, data: bytes) -> bytes:
        now = self._clock.monotonic()
        if now >= self._renew_at:
            self._renew_at = now + self._claim.seconds / 3
            self._spawn(self._claim.renew())
        return super().chunk(data)


def _checked(value: bytes) -> bytes:
    """Visible ASCII: two keys, or one with blanks, are somebody's mistake."""
    if not 0 < len(value) <= LONGEST_KEY or any(not 0x21 <= byte <= 0x7E for byte in value):
        raise BadRequest(
            f"the Idempotency-Key is not 1 to {LONGEST_KEY} visible ASCII characters",
            code="invalid_idempotency_key",
            param="idempotency-key",
            hint="Send a UUID.",
        )
    return value


def _again(ctx: Context, record: Record, fingerprint: bytes) -> Response:
    if record.fingerprint != fingerprint:
        ctx.decide("idempotency", "refuse", "another payload")
        raise Unprocessable(
            "this Idempotency-Key was used with another request",
            code="idempotency_key_reused",
            param="idempotency-key",
            hint="Use a new key for each new request.",
        )
    if not record.status:
        ctx.decide("idempotency", "refuse", "in flight")
        raise Conflict(
            "the request with this Idempotency-Key is still being answered",
            code="idempotency_in_flight",
            param="idempotency-key",
            retry_after=1.0,
        )
    if not record.kept:
        ctx.decide("idempotency", "refuse", "not kept")
        gone = Conflict(
            "the request was answered before; its answer was too large to be kept",
            code="idempotency_answer_not_kept",
            param="idempotency-key",
        )
        response = render_error(gone)
        response.headers.append((b"x-should-retry", b"false"))
        return response
    ctx.decide("idempotency", "replay")
    return Response(record.status, [*record.headers, (b"idempotent-replayed", b"true")], record.body)


def _is_final(ctx: Context, status: int) -> bool:
    """Whether it is done by this answer. A fallback's is not, unless it has taken the work on (202)."""
    return status < 400 and (ctx.fallback in REAL or status == 202)


def _has_end(ctx: Context, copy: Copy) -> bool:
    """A model's stream that ends without `[DONE]` told of an error."""
    return not (ctx.route.metered and ctx.streamed and copy.whole) or copy.data.rstrip().endswith(b"[DONE]")


def _is_kept(name: bytes) -> bool:
    return (name.startswith((b"content-", b"x-moonpool-")) or name in HEADERS) and name not in NOT_KEPT


def _parts(*texts: str) -> bytes:
    """Texts with their ends marked: no two lists give the same bytes (none of them can hold a NUL)."""
    return b"".join(text.encode("utf-8", "surrogatepass") + b"\0" for text in texts)
