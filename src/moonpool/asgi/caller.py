"""Who calls a service: checks the signed internal context of every request before the service sees it."""

from dataclasses import dataclass

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from moonpool.contracts import context as signed
from moonpool.core.clock import Clock
from moonpool.core.errors import MoonpoolError, Unauthenticated
from moonpool.core.message import Response
from moonpool.core.principal import Principal
from moonpool.openai.errors import render_error

OPEN_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
"""Answered to whoever reaches the socket: they tell no user's data."""
_UNSIGNED = OPEN_PATHS | {None}
"""The lifespan has no path."""
SCOPE_KEY = "moonpool.caller"


@dataclass(frozen=True)
class Caller:
    """`principal` is the user on whose behalf module `issuer` calls, and what it calls for.

    `request_id` stays the same when a request is sent again; `idempotency_key` is the client's name for it.
    """

    principal: Principal
    issuer: str
    request_id: str
    method: str = ""
    path: str = ""
    idempotency_key: str = ""


class CallerMiddleware:
    """Pure ASGI, around the whole application: nothing below it runs without a valid context."""

    def __init__(self, app: ASGIApp, *, key: bytes, audience: str, clock: Clock) -> None:
        self._app = app
        self._key = key
        self._audience = audience
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.WEBSOCKET:
            await send({"type": "websocket.close", "code": 1008, "reason": "no service takes websockets"})
            return
        if scope.get("path") in _UNSIGNED:
            await self._app(scope, receive, send)
            return
        try:
            scope[SCOPE_KEY] = self._caller(scope)  # type: ignore[literal-required]
        except MoonpoolError as error:
            await answer(render_error(error), send)
            return
        if scope["method"] == "HEAD":  # as GET; the server leaves the body out (RFC 9110 §9.3.2)
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller:
        headers = dict(scope["headers"])
        value = headers.get(signed.HEADER)
        if value is None:
            raise Unauthenticated(
                "this service takes signed calls only",
                code="invalid_context",
                hint="Call it through the gateway.",
            )
        context = signed.verify(self._key, value, audience=self._audience, now=self._clock.time())
        return Caller(
            context.principal,
            context.issuer,
            headers.get(signed.REQUEST_ID, b"").decode("latin-1"),
            method=str(scope.get("method", "")),
            path=scope["path"],
            idempotency_key=headers.get(b"idempotency-key", b"").decode("latin-1"),
        )


async def answer(response: Response, send: Send) -> None:
    """Send a response whose body is bytes."""
    assert isinstance(response.body, bytes)
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": [*response.headers, (b"content-length", b"%d" % len(response.body))],
        }
    )
    await send({"type": "http.response.body", "body": response.body, "more_body": False})
