"""The degraded twin of a service: what is still a useful half-answer while the service is down.

Every service ships one in its `fallback.py` and names it in its manifest; the gateway applies it and
knows no service. It runs in the gateway's process, hence imports nothing heavier than the service's schema.

    cause ─► stale cache entry ─► Fallback.answer ─► Fallback.degraded (if the route says so) ─► 503
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.inference import InferenceClient
from moonpool.core.clock import Clock
from moonpool.core.context import Context
from moonpool.core.errors import ConnectFailed, PlatformError, Unavailable, UpstreamError
from moonpool.core.message import Request, Response, ResponseHeaders

UNSURE = "Look before you try again: the change may have been made."
RETRY_AFTER = 5.0
"""Seconds, when the cause does not know better: a circuit breaker's first open period."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A complete answer (200) that the service gave a while ago. `at` is Unix seconds."""

    headers: ResponseHeaders
    body: bytes
    at: float


class LastKnown(Protocol):
    """What the gateway remembers of routes whose manifest says `remember`: bounded, in memory, and only
    ever what `ctx.principal` itself was answered before (or what is the same for everyone)."""

    def get(self, ctx: Context, request: Request) -> Known | None:
        """The last answer to this very request."""

    def latest(self, ctx: Context, path: str) -> Known | None:
        """The last answer to a GET of `path`, whatever its query was."""


class Later(Protocol):
    async def defer(self, ctx: Context, request: Request, *, reason: str, route: str = "") -> str:
        """Keep `request` durably and send it in the name of `ctx.principal` when its service is back.

        `route` is its path's template where that is not the context's own.
        Returns the id under which GET /v1/deferred/ID tells how it went; the same one for the same
        request. Raises PlatformError when it cannot be kept.
        """


@dataclass(frozen=True, kw_only=True)
class FallbackParts:
    """What a fallback may use. `inference` asks a model past the service that is down."""

    known: LastKnown
    later: Later
    inference: InferenceClient | None
    config: PlatformConfig
    clock: Clock


class Fallback(Protocol):
    """Both get the request as the service would have, and the error that all else ended with.

    Both may raise: a PlatformError that tells the client more than the cause does, or a RequestError for
    a request that the service would have refused as well.
    """

    async def answer(self, ctx: Context, request: Request, cause: PlatformError) -> Response | None:
        """The service's own half-answer, or None when there is none for this request."""

    def degraded(self, ctx: Context, request: Request, cause: PlatformError) -> Response | None:
        """A valid object of the route's contract that says it is degraded."""


MakeFallback = Callable[[FallbackParts], Fallback]


class ReadOnly:
    """The plainest twin: reads are answered from what was last known, writes with when to try again.

    `subject` begins the sentence that a refused write is told ("profiles are").
    """

    def __init__(self, parts: FallbackParts, subject: str) -> None:
        self.parts = parts
        self._subject = subject

    async def answer(self, ctx: Context, request: Request, cause: PlatformError) -> Response | None:
        if request.method in {"GET", "HEAD"}:
            known = self.parts.known.get(ctx, request)
            return None if known is None else respond(known, self.parts.clock)
        raise Unavailable(
            f"{self._subject} read-only for the moment: {cause.message}",
            code="read_only",
            hint=UNSURE if _may_have_been_done(cause) else "Nothing was changed.",
            retry_after=cause.retry_after or RETRY_AFTER,
        )

    def degraded(self, ctx: Context, request: Request, cause: PlatformError) -> Response | None:
        return None


def _may_have_been_done(cause: PlatformError) -> bool:
    """Whether the service may have read the request before it failed."""
    return isinstance(cause, UpstreamError) and not isinstance(cause, ConnectFailed)


def respond(known: Known, clock: Clock) -> Response:
    """A known answer as it was, with its age (RFC 9111 §5.1)."""
    age = max(0, int(clock.time() - known.at))
    return Response(200, [*known.headers, (b"age", b"%d" % age)], known.body)
