"""The entry points of the modules (wiring/registry.py names them)."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import cast

import uvicorn
from litestar.types import ASGIApp, Receive, Scope, Send
from prometheus_client import CollectorRegistry

from moonpool.asgi.parts import Parts
from moonpool.asgi.shutdown import Shutdown
from moonpool.contracts.clients import Clients
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.manifest import Manifest
from moonpool.core.component import Component, Group
from moonpool.core.errors import StartupError
from moonpool.middleware.gauges import Gauges
from moonpool.middleware.watching import watch_spans
from moonpool.ports.telemetry import SpanExporter
from moonpool.wiring.adapters import open_cache, open_database, open_objects
from moonpool.wiring.clients import (
    ChainedInferenceClient,
    HttpAuthClient,
    HttpCatalogueClient,
    HttpProbeClient,
)
from moonpool.wiring.gateway import run_gateway
from moonpool.wiring.inference import InferencePath, patient
from moonpool.wiring.infrastructure import Infrastructure, open_infrastructure
from moonpool.wiring.money import HttpBudgetClient
from moonpool.wiring.registry import resolve
from moonpool.wiring.settings import ModuleSettings

LAST_SHARE, LAST_MOST = 0.1, 5.0
"""Of the time to drain, and seconds: what is kept of it for what a service has to end after its requests."""
KEEP_ALIVE = 75
"""Seconds a service keeps an idle connection: longer than our client does, so that it never closes one
that is just being used again."""

__all__ = ["run_gateway", "run_service"]


async def run_service(
    name: str,
    settings: ModuleSettings,
    sockets: list[socket.socket],
    stop: Shutdown,
    ready: Callable[[], None],
) -> None:
    """Serve one of the nine services until `stop`, then drain. Raises StartupError."""
    infrastructure = open_infrastructure(settings)
    manifest = cast(Manifest, resolve(f"moonpool.services.{name}.manifest:MANIFEST"))
    parts, components = _parts(manifest, settings, infrastructure, stop)
    group = Group(components)
    await group.start()
    try:
        create = cast(Callable[[Parts], ASGIApp], resolve(f"moonpool.services.{name}.app:create"))
        await serve_application(create(parts), settings, sockets, stop, ready)
    finally:
        await group.stop()


def _parts(
    manifest: Manifest, settings: ModuleSettings, infrastructure: Infrastructure, stop: Shutdown
) -> tuple[Parts, list[Component]]:
    config, data = infrastructure.config, infrastructure.data
    database = open_database(config, data, manifest.service)
    cache = open_cache(config)
    objects = open_objects(config, data)
    spans = infrastructure.spans
    clients, more = _clients(manifest, settings, infrastructure, spans)
    metrics = CollectorRegistry()
    if spans is not None:
        gauges = Gauges()
        watch_spans(gauges, spans)
        metrics.register(gauges)
        more = [*more, spans]
    parts = Parts(
        manifest=manifest,
        release=settings.release,
        instance=settings.instance,
        slot=settings.slot,
        config=config,
        data=data,
        database=database,
        events=infrastructure.events,
        cache=cache,
        objects=objects,
        clients=clients,
        clock=infrastructure.clock,
        metrics=metrics,
        log=infrastructure.log,
        context_key=settings.secrets.context,
        secrets=dict(settings.secrets.own),
        documents=infrastructure.documents,
        shutdown=stop,
        spans=spans,
    )
    return parts, [*infrastructure.components, database, cache, objects, *more]


def _clients(
    manifest: Manifest, settings: ModuleSettings, infrastructure: Infrastructure, spans: SpanExporter | None
) -> tuple[Clients, list[Component]]:
    """The clients that the manifest's `calls` name, and what has to run for them."""
    caller, components = infrastructure.caller, cast(list[Component], [])
    inference = None
    if "inference" in manifest.calls:
        inference, components = _inference_client(settings, infrastructure, spans)
    clients = Clients(
        auth=HttpAuthClient(caller) if "auth" in manifest.calls else None,
        budgets=HttpBudgetClient(caller) if "billing" in manifest.calls else None,
        model=HttpCatalogueClient(caller) if "model" in manifest.calls else None,
        inference=inference,
        probe=HttpProbeClient(infrastructure.discovery, infrastructure.client)
        if manifest.service == "monitoring"
        else None,
    )
    return clients, components


def _inference_client(
    settings: ModuleSettings, infrastructure: Infrastructure, spans: SpanExporter | None
) -> tuple[ChainedInferenceClient, list[Component]]:
    path = InferencePath(settings, infrastructure)
    manifest = cast(Manifest, resolve("moonpool.services.inference.manifest:MANIFEST"))
    client = ChainedInferenceClient(
        patient(manifest, infrastructure.config.resilience.timeouts),
        path.filters,
        path.upstream,
        infrastructure.clock,
        spans,
    )
    infrastructure.documents.subscribe(
        PLATFORM, lambda _name, _old, new: client.update(patient(manifest, new.resilience.timeouts))
    )
    return client, path.components


class _Server(uvicorn.Server):
    """uvicorn without its own signals: the runner has them. Nor with a time of its own to end in: ours may
    become shorter while it drains."""

    def __init__(self, config: uvicorn.Config, stop: Shutdown) -> None:
        super().__init__(config)
        self._stop = stop
        stop.under_way = lambda: len(self.server_state.tasks)

    async def _wait_tasks_to_complete(self) -> None:
        """Raises TimeoutError, upon which uvicorn cancels what has not ended."""
        await self._stop.within(self._requests_end)

    async def _requests_end(self, seconds: float) -> None:
        async with asyncio.timeout(seconds - min(LAST_SHARE * seconds, LAST_MOST)):
            await super()._wait_tasks_to_complete()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _LifespanErrors:
    """Keeps the error with which an application's start failed; uvicorn would only log it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.error: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":  # type: ignore[comparison-overlap]
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except BaseException as error:
            self.error = error
            raise


async def _uvicorn(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
    """uvicorn exits the process when the application does not start, and would take the reason with it."""
    with contextlib.suppress(SystemExit):
        await server.serve(sockets=sockets)


async def serve_application(
    app: ASGIApp,
    settings: ModuleSettings,
    sockets: list[socket.socket],
    stop: Shutdown,
    ready: Callable[[], None],
) -> None:
    guarded = _LifespanErrors(app)
    config = uvicorn.Config(
        cast("uvicorn._types.ASGI3Application", guarded),
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
    )
    server = _Server(config, stop)
    serving = asyncio.create_task(_uvicorn(server, sockets), name="serve")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        if server.started:
            ready()
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not stop.begun:
            stop.begin(settings.drain_timeout)
        server.should_exit = True
        await serving
    if isinstance(guarded.error, StartupError):
        raise guarded.error
    if not server.started:
        raise RuntimeError("the application did not start") from guarded.error
