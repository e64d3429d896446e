"""The cache of models' answers (RFC 9111, with the two uses of stale answers of RFC 5861).

Kept are whole, successful answers of the model itself, apart for each organisation: those that would be the
same each time, and others if the client or the route says so. A hit costs no tokens: it stands above the
token limit and metering, so no usage event is written for it; its `usage` is that of the answer it repeats.

    x-moonpool-cache: on       also an answer of random sampling      Cache-Control: no-cache, no-store,
                      off      neither look nor keep                  max-age, min-fresh, max-stale,
                      refresh  do not look, keep the new answer       only-if-cached (504 without an entry)
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.contracts.catalogue import Model
from moonpool.contracts.manifest import Cached, Route
from moonpool.core.body import Outcome, Stream
from moonpool.core.clock import Clock
from moonpool.core.context import Context
from moonpool.core.deadline import Deadline
from moonpool.core.errors import BadRequest, DeadlineExceeded, MoonpoolError, PlatformError, StoreAway
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.middleware.cache_key import cache_key, deterministic
from moonpool.middleware.copying import Copy
from moonpool.middleware.freshness import Use, Wishes, judge, wishes
from moonpool.openai.assembly import as_stream, assemble, complete
from moonpool.openai.chunks import wire_usage
from moonpool.openai.errors import render_error
from moonpool.ports.cache import Cache

LARGEST = 1024 * 1024
"""Bytes of an answer that is kept. Bounded in all is the store."""
FRAMED = 4
"""How many times larger than its answer a stream may be: each token comes in an object of its own."""
FOLLOW = 15.0
"""Seconds that a request waits for another one that asks the same; then it goes on its own way."""
RENEWALS = 32
"""Renewals behind stale answers at one time; further ones wait for the next request."""
NAME = b"x-moonpool-cache"


class Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry. `at` is Unix seconds; `body` the whole answer as JSON."""

    at: float
    release: bytes
    body: bytes


class AnswerCache:
    """`find` gives the model behind an alias for a path, and raises as inference would."""

    def __init__(
        self,
        store: Cache,
        find: Callable[[str, str], Model],
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        largest: int = LARGEST,
        follow: float = FOLLOW,
    ) -> None:
        self._store = store
        self._find = find
        self._clock = clock
        self._log = log
        self._largest = largest
        self._follow = follow
        self._flights: dict[str, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewing = 0

    def applies(self, route: Route) -> bool:
        return route.cached is not None and route.schema != ""

    def __call__(self, ctx: Context, request: Request, next: Handler) -> Awaitable[Response]:
        policy: Cached = ctx.route.cached
        headers = request.headers
        mode, control = _mode(headers[NAME]) if NAME in headers else None, headers.get(b"cache-control")
        if mode is None and not (policy.every or deterministic(ctx.payload)):
            mode = b"off"
        if mode == b"off" and control is None:
            return _past(ctx, request, next)
        return self._as_wished(policy, mode, control, ctx, request, next)

    async def _as_wished(
        self,
        policy: Cached,
        mode: bytes | None,
        control: bytes | None,
        ctx: Context,
        request: Request,
        next: Handler,
    ) -> Response:
        wished = wishes(control)
        if mode == b"off" or wished.no_store or not ctx.principal.tenant:
            return _not_kept(ctx) if wished.only_if_cached else await _past(ctx, request, next)
        payload, body = ctx.payload, request.body
        assert isinstance(body, bytes)
        model = self._find(payload.model, request.path)
        ctx.model = model.id
        key = cache_key(
            tenant=ctx.principal.tenant, release=ctx.release, model=model, path=ctx.route.path, body=body
        )
        if not (wished.no_cache or mode == b"refresh"):
            found = await self._look(key, policy, wished, ctx, request, next)
            if found is not None:
                return found
        if wished.only_if_cached:
            return _not_kept(ctx)
        return await self._fetch(key, policy, ctx, request, next)

    async def start(self) -> None:
        """A component, for the sake of `stop`."""

    async def stop(self) -> None:
        """End what goes on behind answers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ── looking ────────────────────────────────────────────────────────────────────────────────────

    async def _look(
        self, key: str, policy: Cached, wished: Wishes, ctx: Context, request: Request, next: Handler
    ) -> Response | None:
        """An answer that is kept, or that somebody who asks the same is about to get."""
        kept = await self._load(key, ctx)
        use = Use.NONE
        if kept is not None:
            age = max(self._clock.time() - kept.at, 0.0)
            use = judge(age, policy, wished)
            if use is Use.FRESH:
                return self._answer(kept, "hit", ctx)
            if use in {Use.ACCEPTED, Use.RENEW}:
                if use is Use.RENEW:
                    self._renew(key, policy, ctx, request, next)
                return self._answer(kept, "stale", ctx)
        flight = self._flights.get(key)
        if flight is not None and not wished.only_if_cached:
            await asyncio.wait({flight}, timeout=self._follow)
            newer = await self._load(key, ctx)
            if (
                newer is not None
                and judge(max(self._clock.time() - newer.at, 0.0), policy, wished) is Use.FRESH
            ):
                return self._answer(newer, "hit", ctx)
        if kept is not None and use is Use.ON_ERROR:
            ctx.stale = partial(self._answer, kept, "stale", ctx)
        return None

    async def _load(self, key: str, ctx: Context) -> Kept | None:
        try:
            value = await self._store.get(key)
        except PlatformError as error:
            ctx.decide("cache", "unavailable", error.detail)
            return None
        try:
            return None if value is None else msgspec.msgpack.decode(value, type=Kept)
        except msgspec.DecodeError:  # of another version of this program
            return None

    def _answer(self, kept: Kept, how: str, ctx: Context) -> Response:
        age = max(int(self._clock.time() - kept.at), 0)
        ctx.decide("cache", how, f"{age} s old")
        payload = ctx.payload
        if payload.stream:
            body, kind = as_stream(kept.body, usage=payload.includes_usage), b"text/event-stream"
        else:
            body, kind = kept.body, b"application/json"
        headers = [(b"content-type", kind), (NAME, how.encode()), (b"age", b"%d" % age)]
        if kept.release:
            headers.append((b"x-moonpool-release", kept.release))
        return Response(200, headers, body)

    # ── fetching ───────────────────────────────────────────────────────────────────────────────────

    async def _fetch(
        self, key: str, policy: Cached, ctx: Context, request: Request, next: Handler
    ) -> Response:
        """Ask those below, and keep what they answer. Others who ask the same meanwhile may wait for it."""
        flight: asyncio.Future[None] | None = None
        if key not in self._flights:
            flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            response = await next(ctx, request)
        except BaseException:
            self._land(key, flight)
            raise
        ctx.decide("cache", "miss")
        if response.header(NAME) is None:
            response.headers.append((NAME, b"miss"))
        events = b"event-stream" in (response.header(b"content-type") or b"").lower()
        if not _may_be_kept(ctx, response, events):
            self._land(key, flight)
            return response
        release = response.header(b"x-moonpool-release") or b""
        ttl = policy.fresh + max(policy.while_revalidating, policy.if_error)
        body = response.body
        if not isinstance(body, Stream):
            self._spawn(self._keep(key, flight, ttl, release, body, ctx, events=False))
            return response
        copy = Copy(self._largest * FRAMED)
        body.transform(copy)

        def settled(outcome: Outcome, error: Exception | None) -> None:
            if outcome is Outcome.COMPLETED and copy.whole:
                self._spawn(self._keep(key, flight, ttl, release, copy.data, ctx, events=events))
            else:
                self._land(key, flight)

        body.on_settled(settled)
        return response

    async def _keep(
        self,
        key: str,
        flight: "asyncio.Future[None] | None",
        ttl: float,
        release: bytes,
        body: bytes,
        ctx: Context,
        *,
        events: bool,
    ) -> None:
        try:
            whole: bytes | None = body
            if events:
                whole = assemble(body, None if ctx.usage is None else wire_usage(ctx.usage))
            elif not complete(body):
                whole = None
            if whole is not None and len(whole) <= self._largest:
                value = msgspec.msgpack.encode(Kept(self._clock.time(), release, whole))
                await self._store.set(key, value, ttl=ttl)
        except StoreAway:
            pass  # its connection has told of it
        except PlatformError as error:
            self._log.warning("answer not cached", request_id=ctx.request_id, reason=error.detail)
        finally:
            self._land(key, flight)

    def _land(self, key: str, flight: "asyncio.Future[None] | None") -> None:
        if flight is not None:
            del self._flights[key]
            flight.set_result(None)

    def _renew(self, key: str, policy: Cached, ctx: Context, request: Request, next: Handler) -> None:
        if key in self._flights or self._renewing >= RENEWALS:
            return
        self._renewing += 1
        self._spawn(self._renewal(key, policy, _behind(ctx), request, next))

    async def _renewal(self, key: str, policy: Cached, ctx: Context, request: Request, next: Handler) -> None:
        """The tenant's own request once more, metered and limited as any: its client has its answer."""
        try:
            response = await self._fetch(key, policy, ctx, request, next)
            if isinstance(response.body, Stream):
                over = asyncio.get_running_loop().create_future()
                response.body.on_settled(lambda outcome, error: over.set_result(None))
                try:
                    response.body.connect(_Nowhere())
                    await over
                finally:
                    response.body.cancel()
        except MoonpoolError as error:
            self._log.info("stale answer not renewed", request_id=ctx.request_id, reason=error.detail)
        finally:
            self._renewing -= 1

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Nowhere:
    """The sink of a stream that is read for its copy."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def abort(self, error: Exception) -> None: ...


async def _past(ctx: Context, request: Request, next: Handler) -> Response:
    response = await next(ctx, request)
    if not ctx.fallback:
        response.headers.append((NAME, b"bypass"))
    return response


def _mode(value: bytes) -> bytes:
    mode = value.strip().lower()
    if mode not in {b"on", b"off", b"refresh"}:
        raise BadRequest("x-moonpool-cache is none of on, off, refresh", param="x-moonpool-cache")
    return mode


def _may_be_kept(ctx: Context, response: Response, events: bool) -> bool:
    """Only what the model itself has answered, and its endpoint does not forbid to keep.

    Endpoints say `no-store` of every stream of events, for the sake of proxies that would hold it back: it
    says nothing about the answer."""
    if response.status != 200 or ctx.fallback:
        return False
    return events or not wishes(response.header(b"cache-control")).no_store


def _not_kept(ctx: Context) -> Response:
    """RFC 9111 §5.2.1.7."""
    ctx.decide("cache", "refuse", "only-if-cached")
    response = render_error(DeadlineExceeded("no answer to this request is cached", code="not_cached"))
    response.headers += [(b"x-should-retry", b"false"), (NAME, b"miss")]
    return response


def _behind(ctx: Context) -> Context:
    """A context for work in the name of the same caller, with an id and a deadline of its own."""
    own = Context(ctx.clock)
    own.request_id = f"{ctx.request_id}.renewal"
    own.deadline = Deadline(own.started + ctx.route.timeouts.total)
    own.principal, own.route, own.service, own.release = ctx.principal, ctx.route, ctx.service, ctx.release
    own.payload, own.parameters, own.model = ctx.payload, ctx.parameters, ctx.model
    own.trace_id, own.span_id, own.trace_flags = ctx.trace_id, ctx.span_id, ctx.trace_flags
    own.trace_state = ctx.trace_state
    return own
