"""What the tests of services' fallbacks share: the service's twin with what it may use, and calls to it."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.fallback import Fallback, FallbackParts
from moonpool.contracts.manifest import Manifest, Route
from moonpool.core.clock import ManualClock
from moonpool.core.context import Context
from moonpool.core.errors import ConnectFailed
from moonpool.core.message import Request, Response
from moonpool.core.principal import Principal, Role
from moonpool.middleware.last_known import LastKnownMemory

CALLER = Principal(user="u1", tenant="t1", key="k1", role=Role.MEMBER)
CAUSE = ConnectFailed("no connection")


class Later:
    """Keeps what is deferred; `full` refuses it."""

    def __init__(self) -> None:
        self.kept: list[tuple[Request, str]] = []
        self.full: Exception | None = None

    async def defer(self, ctx: Context, request: Request, *, reason: str, route: str = "") -> str:
        if self.full is not None:
            raise self.full
        self.kept.append((request, route or ctx.route.path))
        return f"dl_{len(self.kept)}"


class Twin:
    def __init__(self, service: str, inference: Any = None) -> None:
        self.clock, self.later = ManualClock(), Later()
        self.known = LastKnownMemory(self.clock)
        self.manifest: Manifest = import_module(f"moonpool.services.{service}.manifest").MANIFEST
        module, _, name = self.manifest.fallback.partition(":")
        self.parts = FallbackParts(
            known=self.known,
            later=self.later,
            inference=inference,
            config=PlatformConfig(),
            clock=self.clock,
        )
        self.fallback: Fallback = getattr(import_module(module), name)(self.parts)

    def context(self, method: str, route: str, **parameters: str) -> Context:
        ctx = Context(self.clock)
        ctx.request_id, ctx.principal, ctx.service = "req_1", CALLER, self.manifest.service
        ctx.route = self.route(method, route)
        ctx.parameters = parameters
        return ctx

    def route(self, method: str, path: str) -> Route:
        wanted = "GET" if method == "HEAD" else method
        return next(r for r in self.manifest.routes if (r.method, r.path) == (wanted, path))

    def remember(self, route: str, body: bytes, *, query: str = "", **parameters: str) -> None:
        """The service gave this answer a minute ago."""
        ctx = self.context("GET", route, **parameters)
        headers = [(b"content-type", b"application/json")]
        self.known.learn(ctx, Request("GET", _path(route, parameters), query), Response(200, headers, body))
        self.clock.advance(60.0)

    async def ask(
        self, method: str, route: str, body: bytes = b"", *, query: str = "", **parameters: str
    ) -> Response | None:
        ctx = self.context(method, route, **parameters)
        request = Request(method, _path(route, parameters), query, {}, body)
        return await self.fallback.answer(ctx, request, CAUSE)


def _path(route: str, parameters: Mapping[str, str]) -> str:
    for name, value in parameters.items():
        route = route.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
    return route
