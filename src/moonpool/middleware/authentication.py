"""Authentication: who asks, without a call per request.

A key is looked up in a bounded cache by a keyed digest (the key itself is kept nowhere). Fresh entries
answer at once; entries past their freshness answer at once too and are renewed behind the request; unknown
keys are asked for at the auth service, once however many requests bring them. While that service is away
known keys keep working up to a maximum age, and unknown ones get 503: never 401, never in.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import blake2b
from os import urandom

from structlog.typing import FilteringBoundLogger

from moonpool.contracts.auth import AuthClient, Verdict
from moonpool.contracts.manifest import Access, Route
from moonpool.core.clock import Clock
from moonpool.core.context import Context
from moonpool.core.errors import (
    MoonpoolError,
    PermissionDenied,
    PlatformError,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.core.principal import Principal
from moonpool.middleware.attempts import FailedAttempts

FRESH = 60.0
"""Seconds an answer of the auth service is taken as it is. Revocations are pushed, hence not shorter."""
MAX_STALE = 24 * 3600.0
"""Seconds a known key keeps working while the auth service is away."""
CAPACITY = 100_000
UNKNOWN_FRESH = 5.0
"""Seconds an unknown key stays unknown without being asked for again."""
UNKNOWN_CAPACITY = 10_000
REVOKED_FOR = 120.0
"""Seconds for which a verdict on a revoked key is not believed: longer than any call to the auth service,
which may have looked just before the revocation. Revocations are for good."""
REVOKED_CAPACITY = 10_000
LANES = 64
LANE_RATE = 6
"""Failed attempts a minute through one lane of an address that is stopped."""
LONGEST_KEY = 512


class _Entry:
    __slots__ = ("expires_at", "fresh_until", "key", "principal", "renewing", "stale_until")

    def __init__(self, principal: Principal, expires_at: float | None, now: float) -> None:
        self.principal = principal
        self.key = principal.key
        self.expires_at = expires_at
        self.fresh_until = now + FRESH
        self.stale_until = now + MAX_STALE
        self.renewing = False


class KeyCache:
    """Known and unknown keys, least recently learnt first out."""

    def __init__(self, clock: Clock, *, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._capacity = capacity
        self._known: OrderedDict[bytes, _Entry] = OrderedDict()
        self._unknown: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._by_key: dict[str, set[bytes]] = {}
        self._revoked: OrderedDict[str, float] = OrderedDict()
        self._secret = urandom(32)

    def digest(self, key: bytes) -> bytes:
        """Under a secret of this process: a dump of the cache gives no key away."""
        return blake2b(key, digest_size=16, key=self._secret).digest()

    def get(self, digest: bytes) -> _Entry | None:
        """An entry that may still be used while the auth service is away."""
        entry = self._known.get(digest)
        if entry is None:
            return None
        if entry.expires_at is not None and entry.expires_at <= self._clock.time():
            self._drop(digest)
            return None
        if entry.stale_until <= self._clock.monotonic():
            self._drop(digest)
            return None
        return entry

    def learn(self, digest: bytes, verdict: Verdict) -> Verdict:
        """The verdict that counts: a revocation that came in the meantime stands above it."""
        now = self._clock.monotonic()
        self._drop(digest)
        if verdict.principal is not None and self._is_revoked(verdict.principal.key, now):
            verdict = Verdict(principal=None, reason="revoked")
        if verdict.principal is None:
            self._unknown[digest] = (now + UNKNOWN_FRESH, verdict.reason)
            while len(self._unknown) > UNKNOWN_CAPACITY:
                self._unknown.popitem(last=False)
            return verdict
        self._unknown.pop(digest, None)
        entry = _Entry(verdict.principal, verdict.expires_at, now)
        self._known[digest] = entry
        self._by_key.setdefault(entry.key, set()).add(digest)
        while len(self._known) > self._capacity:
            self._drop(next(iter(self._known)))
        return verdict

    def unknown(self, digest: bytes) -> str | None:
        """Why the key was refused a moment ago, or None."""
        entry = self._unknown.get(digest)
        if entry is None:
            return None
        until, reason = entry
        if until <= self._clock.monotonic():
            del self._unknown[digest]
            return None
        return reason or "unknown key"

    def revoke(self, key: str) -> None:
        """Forget what is known about the key with that public id, and what will be said of it right now."""
        self._revoked[key] = self._clock.monotonic()
        self._revoked.move_to_end(key)
        while len(self._revoked) > REVOKED_CAPACITY:
            self._revoked.popitem(last=False)
        for digest in self._by_key.pop(key, set()).copy():
            self._known.pop(digest, None)

    def _is_revoked(self, key: str, now: float) -> bool:
        at = self._revoked.get(key)
        return at is not None and now - at <= REVOKED_FOR

    def _drop(self, digest: bytes) -> None:
        entry = self._known.pop(digest, None)
        if entry is not None:
            digests = self._by_key.get(entry.key)
            if digests is not None:
                digests.discard(digest)
                if not digests:
                    del self._by_key[entry.key]


class Authentication:
    def __init__(
        self,
        cache: KeyCache,
        auth: AuthClient,
        attempts: FailedAttempts,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._cache = cache
        self._auth = auth
        self._attempts = attempts
        self._lanes = FailedAttempts(clock, per_minute=LANE_RATE, burst=1)
        self._clock = clock
        self._log = log
        self._asking: dict[bytes, asyncio.Task[Verdict]] = {}

    def applies(self, route: Route) -> bool:
        return route.access is not Access.PUBLIC

    def __call__(self, ctx: Context, request: Request, next: Handler) -> Awaitable[Response]:
        route: Route = ctx.route
        if route.access is Access.LOCAL and _is_local(request):
            ctx.decide("authentication", "allow", "local caller")
            return next(ctx, request)
        key = _key(request)
        digest = self._cache.digest(key)
        entry = self._cache.get(digest)
        if entry is None:
            return self._unknown(ctx, request, next, digest, key)
        ctx.principal = entry.principal
        now = ctx.clock.monotonic()
        if entry.fresh_until <= now and not entry.renewing:
            entry.renewing = True
            self._ask(digest, key).add_done_callback(lambda task: self._renewed(entry, task))
        ctx.decisions.append(("authentication", "allow", entry.key, now))
        _authorise(ctx.principal, route)
        return next(ctx, request)

    async def _unknown(
        self, ctx: Context, request: Request, next: Handler, digest: bytes, key: bytes
    ) -> Response:
        ctx.principal = await self._ask_for_unknown(ctx, request, digest, key)
        _authorise(ctx.principal, ctx.route)
        return await next(ctx, request)

    async def _ask_for_unknown(self, ctx: Context, request: Request, digest: bytes, key: bytes) -> Principal:
        reason = self._cache.unknown(digest)
        if reason is None:
            count_failure = self._stop_guessing(ctx, request.peer, digest)
            try:
                verdict = await asyncio.shield(self._ask(digest, key))
            except PlatformError as error:
                ctx.decide("authentication", "unavailable", error.detail)
                raise Unavailable(
                    "keys cannot be verified right now", code="auth_unavailable", retry_after=1.0
                ) from None
            if verdict.principal is not None:
                ctx.decide("authentication", "allow", f"{verdict.principal.key}, asked the auth service")
                return verdict.principal
            reason = verdict.reason or "unknown key"
            count_failure()
        ctx.decide("authentication", "refuse", reason)
        raise Unauthenticated(
            f"Incorrect API key provided: {_masked(key)}",
            hint="Create one with `moonpool keys create`.",
        )

    def _stop_guessing(self, ctx: Context, address: str, digest: bytes) -> Callable[[], None]:
        """What counts a failure: the address's own count, or that of the key's lane when it is exhausted.

        Raises RateLimited when both are.
        """
        address_wait = self._attempts.blocked(address)
        if address_wait is None:
            return partial(self._attempts.failed, address)
        lane = f"{address} {digest[0] % LANES}"
        lane_wait = self._lanes.blocked(lane)
        if lane_wait is None:
            return partial(self._lanes.failed, lane)
        ctx.decide("authentication", "refuse", "too many failed attempts from this address")
        raise RateLimited(
            "too many failed attempts to authenticate", retry_after=min(address_wait, lane_wait)
        )

    def _ask(self, digest: bytes, key: bytes) -> "asyncio.Task[Verdict]":
        """One call to the auth service a key at a time, whoever waits for it and whoever gives up."""
        task = self._asking.get(digest)
        if task is None:
            task = asyncio.create_task(self._verify(digest, key), name="verify-key")
            self._asking[digest] = task
        return task

    async def _verify(self, digest: bytes, key: bytes) -> Verdict:
        try:
            verdict = await self._auth.verify(key.decode("latin-1"))
            return self._cache.learn(digest, verdict)
        finally:
            self._asking.pop(digest, None)

    def _renewed(self, entry: _Entry, task: "asyncio.Task[Verdict]") -> None:
        entry.renewing = False
        error = None if task.cancelled() else task.exception()
        if isinstance(error, MoonpoolError):
            entry.fresh_until = self._clock.monotonic() + UNKNOWN_FRESH
            self._log.warning("known key not renewed", key=entry.key, reason=error.detail)
        elif error is not None:
            self._log.error("known key not renewed", key=entry.key, exc_info=error)


def _key(request: Request) -> bytes:
    value = request.headers.get(b"authorization")
    if value is None:
        raise Unauthenticated(
            "You didn't provide an API key",
            code="missing_api_key",
            hint="Send it as `Authorization: Bearer KEY`.",
        )
    scheme, _, key = value.partition(b" ")
    key = key.strip()
    if scheme.lower() != b"bearer" or not key or len(key) > LONGEST_KEY:
        raise Unauthenticated("The Authorization header is not `Bearer KEY`", code="invalid_authorization")
    return key


def _masked(key: bytes) -> str:
    """Enough to recognise one's own key, too little to use it."""
    text = key.decode("latin-1").encode("ascii", "replace").decode()
    return f"{text[:6]}…{text[-4:]}" if len(text) > 16 else "…"


def _is_local(request: Request) -> bool:
    forwarded = b"x-forwarded-for" in request.headers or b"forwarded" in request.headers
    return not forwarded and request.peer in {"", "127.0.0.1", "::1"}


def _authorise(principal: Principal, route: Route) -> None:
    if route.access in {Access.ADMIN, Access.LOCAL} and not principal.may("admin"):
        raise PermissionDenied("this needs an admin's key")
    if route.scope and not principal.may(route.scope):
        raise PermissionDenied(
            f"this key's scopes do not include {route.scope!r}", hint="Create a key with that scope."
        )
