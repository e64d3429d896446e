"""The application factory of the services: Litestar with our errors, caller, health and metrics."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.config.app import AppConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ASGIApp, ControllerRouterHandler, Scope
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from moonpool.asgi.application import Application
from moonpool.asgi.caller import SCOPE_KEY, Caller, CallerMiddleware
from moonpool.asgi.health import Health
from moonpool.asgi.parts import Check, Parts
from moonpool.asgi.refusals import DocumentRequest, translate
from moonpool.asgi.startup import PlainStartupErrors
from moonpool.asgi.tracing import SpanMiddleware
from moonpool.contracts import context as signed
from moonpool.contracts.manifest import Manifest
from moonpool.contracts.route_policy import BUFFERED_MOST
from moonpool.core.errors import InternalError, MoonpoolError
from moonpool.openai.errors import render_error

_EXPOSITION_TYPE = CONTENT_TYPE_LATEST.partition("; charset")[0]
"""Litestar adds the charset to text."""
Exposition = Callable[[], Awaitable[bytes]]
"""All metrics there are, in Prometheus' text format."""
Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]
AnyRequest = Request[Any, Any, Any]


def create_app(
    parts: Parts,
    handlers: Sequence[ControllerRouterHandler],
    *,
    lifespan: Sequence[Lifespan] = (),
    required: Mapping[str, Check] | None = None,
    optional: Mapping[str, Check] | None = None,
    exposition: Exposition | None = None,
    standalone: bool = False,
) -> ASGIApp:
    """A service's whole application. Handlers may take `caller: Caller` as a dependency.

    `required` and `optional` are readiness checks beside the database's and the event log's own. With
    `exposition`, signed calls of /metrics get that; who scrapes the socket gets this process's own. A
    `standalone` application looks after its database itself and needs no event log.
    """
    health = Health(
        {**({} if standalone else {"database": parts.database.ping}), **(required or {})},
        {**({} if standalone else {"events": parts.events.ping}), **(optional or {})},
        parts.shutdown,
    )
    app = Application(
        route_handlers=[*handlers, *_plumbing(parts, health, exposition)],
        lifespan=list(lifespan),
        dependencies={"caller": Provide(provide_caller, sync_to_thread=False)},
        exception_handlers={
            MoonpoolError: _on_error,
            HTTPException: _on_http_exception,
            Exception: _Unforeseen(parts),
        },
        openapi_config=OpenAPIConfig(
            title=f"Moonpool {parts.manifest.service}",
            version=parts.release,
            path="/internal/docs",
            render_plugins=[JsonRenderPlugin()],  # its pages for browsers are half a megabyte in each service
        ),
        on_app_init=[_plain],
        request_class=DocumentRequest,
        request_max_body_size=_longest_body(parts.manifest),
    )
    guarded: ASGIApp = CallerMiddleware(
        PlainStartupErrors(app), key=parts.context_key, audience=parts.manifest.service, clock=parts.clock
    )
    return guarded if parts.spans is None else SpanMiddleware(guarded, spans=parts.spans, clock=parts.clock)


def _longest_body(manifest: Manifest) -> int:
    """What any route may be allowed: the limits themselves are the gateway's, where an operator changes them
    while services run, and only who has its signature comes here."""
    return max(BUFFERED_MOST, *(route.body_limit for route in manifest.routes), 0)


def provide_caller(scope: Scope) -> Caller:
    caller = scope[SCOPE_KEY]  # type: ignore[literal-required]
    assert isinstance(caller, Caller)
    return caller


def _plain(config: AppConfig) -> AppConfig:
    config.logging_config = None  # the runner has set up logging for the whole process
    config.debug = False
    return config


def _plumbing(parts: Parts, health: Health, exposition: Exposition | None) -> list[ControllerRouterHandler]:
    @get("/livez", include_in_schema=False)
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @get("/readyz", include_in_schema=False)
    async def readyz() -> Response[Any]:
        readiness = await health.readiness()
        status = 200 if readiness.status in {"ready", "degraded"} else 503
        return Response(readiness, status_code=status)

    @get("/metrics", include_in_schema=False)
    async def metrics(request: AnyRequest) -> Response[bytes]:
        if exposition is not None and signed.HEADER.decode() in request.headers:
            return Response(await exposition(), media_type=_EXPOSITION_TYPE)
        return Response(generate_latest(parts.metrics), media_type=_EXPOSITION_TYPE)

    @get("/internal/openapi.json", include_in_schema=False)
    async def openapi(request: AnyRequest) -> Response[bytes]:
        schema = msgspec.json.encode(request.app.openapi_schema.to_schema())
        return Response(schema, media_type="application/json")

    @get("/internal/manifest", include_in_schema=False)
    async def manifest() -> Response[bytes]:
        return Response(msgspec.json.encode(parts.manifest), media_type="application/json")

    return [livez, readyz, metrics, openapi, manifest]


def _render(error: MoonpoolError) -> Response[bytes]:
    rendered = render_error(error)
    assert isinstance(rendered.body, bytes)
    headers = {name.decode(): value.decode() for name, value in rendered.headers}
    media_type = headers.pop("content-type")
    return Response(rendered.body, status_code=rendered.status, headers=headers, media_type=media_type)


def _on_error(_: AnyRequest, error: MoonpoolError) -> Response[bytes]:
    return _render(error)


def _on_http_exception(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    return _render(translate(request, error))


class _Unforeseen:
    """The process boundary: whatever was not foreseen is logged with its traceback and answered 500."""

    def __init__(self, parts: Parts) -> None:
        self._log = parts.log

    def __call__(self, request: AnyRequest, error: Exception) -> Response[bytes]:
        self._log.error("unforeseen error", path=request.url.path, exc_info=error)
        return _render(InternalError("the service failed unexpectedly"))
