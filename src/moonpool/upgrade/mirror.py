"""Shadow traffic: copies of requests for a release that nobody hears answer.

It stands right above the end of the chain, below metering and whatever else counts or keeps, and sends its
copies straight to that end: they are not billed, limited, cached, repeated or failed over. Only requests
that change nothing are copied: reads, and those that models answer. A copy never delays the request it is
of, and is not sent when too many are under way already.
"""

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from moonpool.contracts.manifest import BalancerKind, BodyKind, Route
from moonpool.contracts.routing import Mirror
from moonpool.core.body import Outcome, Stream
from moonpool.core.context import Context
from moonpool.core.deadline import Deadline
from moonpool.core.errors import MoonpoolError
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response

NAME = "mirror"
LONGEST = 300.0
"""Seconds after which a copy's stream is cut: what it could teach is known by then."""


class Shadows(Protocol):
    def shadow_of(self, service: str, release: str) -> Mirror | None: ...


class Tell(Protocol):
    """Is told how a copy went; `first`, `last` and `chunks` are those of a streamed answer."""

    def __call__(
        self,
        ctx: Context,
        outcome: Outcome,
        *,
        first: float | None = None,
        last: float = 0.0,
        chunks: int = 0,
        mirrored: bool = False,
    ) -> None: ...


class Mirroring:
    """A filter and a component: `stop` ends the copies that are under way."""

    def __init__(self, shadows: Shadows, send: Handler, tell: Tell, log: FilteringBoundLogger) -> None:
        self._shadows = shadows
        self._send = send
        self._tell = tell
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: dict[str, int] = {}
        self.dropped = 0
        """Copies that were not sent because too many were under way."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def applies(self, route: Route) -> bool:
        if route.quiet:
            return False
        if route.balancer is BalancerKind.INFERENCE:
            return True
        return route.method in ("GET", "HEAD") and route.body is BodyKind.NONE

    def __call__(self, ctx: Context, request: Request, next: Handler) -> Awaitable[Response]:
        mirror = self._shadows.shadow_of(ctx.service, ctx.release_wanted)
        if mirror is not None and not ctx.attempts and isinstance(request.body, bytes):
            if self._under_way.get(ctx.service, 0) < mirror.concurrent:
                self._copy(ctx, request, mirror.release)
            else:
                self.dropped += 1
                ctx.decide(NAME, "dropped", f"{mirror.concurrent} copies are under way")
        return next(ctx, request)

    def _copy(self, ctx: Context, request: Request, release: str) -> None:
        ctx.decide(NAME, release, "a copy, whose answer goes nowhere")
        self._under_way[ctx.service] = self._under_way.get(ctx.service, 0) + 1
        copy = Request(
            request.method, request.path, request.query, dict(request.headers), request.body, request.peer
        )
        task = asyncio.create_task(self._run(shadow_context(ctx, release), copy), name="mirror")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, ctx: Context, request: Request) -> None:
        discard = _Discard(ctx)
        try:
            async with asyncio.timeout(LONGEST):
                response = await self._send(ctx, request)
                if isinstance(response.body, Stream):
                    await discard.whole(response.body)
                else:
                    discard.outcome = Outcome.COMPLETED
        except (MoonpoolError, TimeoutError):
            discard.outcome = Outcome.FAILED
        except Exception as error:  # noqa: BLE001 - the task's boundary: a copy must not be heard of otherwise
            self._log.error("a mirrored request failed unforeseen", request_id=ctx.request_id, exc_info=error)
            discard.outcome = Outcome.FAILED
        finally:
            self._under_way[ctx.service] -= 1
            discard.cut()
        self._tell(
            ctx,
            discard.outcome,
            first=discard.first,
            last=discard.last,
            chunks=discard.chunks,
            mirrored=True,
        )


def shadow_context(ctx: Context, release: str) -> Context:
    """Of the same request for another release: what the caller is and asked, none of what was decided."""
    copy = Context(ctx.clock)
    copy.request_id = f"{ctx.request_id}-mirror"
    copy.trace_id, copy.span_id, copy.parent_id = ctx.trace_id, ctx.span_id, ctx.parent_id
    copy.principal = ctx.principal
    copy.service = ctx.service
    copy.route = ctx.route
    copy.parameters = ctx.parameters
    copy.payload = ctx.payload
    copy.model, copy.streamed = ctx.model, ctx.streamed
    copy.prompt_tokens = ctx.prompt_tokens
    copy.release_wanted = release
    copy.deadline = Deadline(copy.started + ctx.route.timeouts.total)
    return copy


class _Discard:
    """The consumer of an answer that nobody wants: it measures, and keeps nothing."""

    def __init__(self, ctx: Context) -> None:
        self._clock = ctx.clock
        self._over = asyncio.Event()
        self._stream: Stream | None = None
        self.outcome = Outcome.CANCELLED
        self.first: float | None = None
        self.last = 0.0
        self.chunks = 0

    async def whole(self, stream: Stream) -> None:
        """Take all of it; returns when it is over."""
        self._stream = stream
        stream.on_settled(self._settled)
        stream.connect(self)
        await self._over.wait()

    def cut(self) -> None:
        if self._stream is not None:
            self._stream.cancel()

    def _settled(self, outcome: Outcome, error: Exception | None) -> None:
        self.outcome = outcome
        self._over.set()

    def write(self, data: bytes) -> None:
        self.last = self._clock.monotonic()
        if self.first is None:
            self.first = self.last
        self.chunks += 1

    def close(self) -> None: ...

    def abort(self, error: Exception) -> None: ...
