"""The fallback handler: when everything below has failed, the best answer that is still possible.

    PlatformError, or a 5xx without a usable body
       └─► stale cache entry ─► the service's own fallback ─► degraded object ─► 503 with Retry-After

Never for a client's own error (4xx), and never once an answer has begun: a stream that breaks later is
failover's. Each use is a decision, a flag, a line in the log and a count in the ranking of causes.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.contracts.fallback import RETRY_AFTER, Fallback
from moonpool.contracts.manifest import Degraded, Remember, Route
from moonpool.core.context import Context
from moonpool.core.decisions import Flag
from moonpool.core.errors import MoonpoolError, PlatformError, RequestError, Unavailable, UpstreamError
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.http.reading import read
from moonpool.middleware.causes import Cause, Causes
from moonpool.middleware.last_known import LastKnownMemory
from moonpool.middleware.prefer import preferences
from moonpool.openai.errors import render_error

HEADER = b"x-moonpool-fallback"
READ_LIMIT = 64 * 1024
"""Bytes of a failed answer that are looked at."""
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class _Error(msgspec.Struct):
    message: str = ""
    code: str | int | None = None


class _Answer(msgspec.Struct):
    """The names under which servers put their errors; an object without any of them is an answer."""

    error: _Error | None = None
    detail: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()


class Failure(NamedTuple):
    """Why the real answer is not given; `response` is the failed answer, if there was one."""

    cause: PlatformError
    response: Response | None


class FallbackFilter:
    """`fallbacks` by service."""

    def __init__(
        self,
        fallbacks: Mapping[str, Fallback],
        known: LastKnownMemory,
        causes: Causes,
        log: FilteringBoundLogger,
    ) -> None:
        self._fallbacks = fallbacks
        self._known = known
        self._causes = causes
        self._log = log

    def applies(self, route: Route) -> bool:
        return not route.quiet or route.remember is not Remember.NO

    async def __call__(self, ctx: Context, request: Request, next: Handler) -> Response:
        try:
            response = await next(ctx, request)
        except PlatformError as error:
            if not ctx.service or error.status == 429:
                raise  # the gateway's own routes have nobody to stand in; a pause is nobody's failure
            return await self._instead(ctx, request, Failure(error, None))
        if response.status < 500:
            if ctx.route.remember is not Remember.NO:
                self._known.learn(ctx, request, response)
            elif response.status < 300 and request.method not in _READS and not ctx.route.metered:
                self._known.changed(ctx, request)
            return response
        if not ctx.service:
            return response
        failure = await judge(response)
        return response if failure is None else await self._instead(ctx, request, failure)

    async def _instead(self, ctx: Context, request: Request, failure: Failure) -> Response:
        cause = failure.cause
        if not ctx.route.fallback:
            return self._done(ctx, "degraded", cause, retry_later(failure))
        response = self._stale(ctx)
        if response is not None:
            return self._done(ctx, "stale", cause, response)
        fallback = self._fallbacks.get(ctx.service)
        if fallback is not None:
            try:
                response = await fallback.answer(ctx, request, cause)
                if response is not None:
                    return self._done(ctx, "service", cause, response)
                if _object_wanted(ctx.route, request):
                    response = fallback.degraded(ctx, request, cause)
            except PlatformError as error:
                ctx.decide("fallback", "none", error.detail)
                failure = Failure(error, None)
            except RequestError as error:  # the service would have refused the request as well
                ctx.decide("fallback", "refuse", error.detail)
                raise
            except Exception as error:  # noqa: BLE001 - services' own code: its fault must not cost the answer
                ctx.decide("fallback", "crashed", type(error).__name__)
                self._log.error(
                    "a fallback crashed", service=ctx.service, request_id=ctx.request_id, exc_info=error
                )
        return self._done(ctx, "degraded", cause, response or retry_later(failure))

    def _stale(self, ctx: Context) -> Response | None:
        make, ctx.stale = ctx.stale, None
        return None if make is None else make()

    def _done(self, ctx: Context, kind: str, cause: PlatformError, response: Response) -> Response:
        ctx.fallback = kind
        ctx.flags.append(Flag.STALE if kind == "stale" else Flag.DEGRADED)
        word = cause_of(cause)
        ctx.decide("fallback", kind, f"{word}: {cause.detail}")
        route = f"{ctx.route.method} {ctx.route.path}"
        self._causes.note(
            Cause(kind, ctx.service, route, word), request_id=ctx.request_id, message=cause.detail
        )
        self._log.warning(
            "fallback",
            kind=kind,
            service=ctx.service,
            route=route,
            cause=word,
            message=cause.detail,
            status=response.status,
            request_id=ctx.request_id,
        )
        response.headers = [field for field in response.headers if field[0] != HEADER]
        response.headers.append((HEADER, kind.encode()))
        return response


def _object_wanted(route: Route, request: Request) -> bool:
    """The route's policy, unless the client says how it takes errors (RFC 7240 §4.4)."""
    handling = preferences(request.headers.get(b"prefer")).get("handling")
    if handling in {"lenient", "strict"}:
        return handling == "lenient"
    return route.degraded is Degraded.OBJECT


def retry_later(failure: Failure) -> Response:
    """503 with Retry-After, in the words of what failed: the most useful error stays the one that is told."""
    cause, response = failure
    if response is None:
        response = render_error(cause)
    headers = list(response.headers)
    if response.header(b"retry-after") is None:
        headers.append((b"retry-after", b"%d" % max(1, round(cause.retry_after or RETRY_AFTER))))
    return Response(503, headers, response.body)


def cause_of(error: MoonpoolError) -> str:
    """A word to count by."""
    return error.code or type(error).__name__


async def judge(response: Response) -> Failure | None:
    """Why an answer with a status from 500 is none, or None when its body is of use to the client: an object
    that is no error, as a health report has it. What was read of the body is in the response afterwards."""
    try:
        response.body = await read(response.body, READ_LIMIT)
    except MoonpoolError as error:
        cause = error if isinstance(error, PlatformError) else UpstreamError("the failed answer is too long")
        return Failure(cause, None)
    try:
        answer = msgspec.json.decode(response.body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Failure(_failed(response, f"status_{response.status}", ""), None)
    told = answer.error
    if told is None:
        foreign = answer.detail or answer.message
        return Failure(_failed(response, f"status_{response.status}", ""), None) if foreign else None
    code = str(told.code) if told.code is not None else ""
    word = code if _CODE.fullmatch(code) else f"status_{response.status}"
    return Failure(_failed(response, word, told.message), response)


def _failed(response: Response, code: str, message: str) -> PlatformError:
    after = response.header(b"retry-after") or b""
    return Unavailable(
        message or f"the service answered {response.status}",
        code=code,
        retry_after=float(after) if after.isdigit() else None,
    )
