"""The monitoring service as an application."""

import asyncio

from litestar.types import ASGIApp

from moonpool.asgi.app import create_app
from moonpool.asgi.background import background
from moonpool.asgi.parts import Parts
from moonpool.core.errors import StartupError
from moonpool.services.monitoring.collector import Collector
from moonpool.services.monitoring.exposition import merge
from moonpool.services.monitoring.health import HealthView
from moonpool.services.monitoring.routes import routes
from moonpool.services.monitoring.store import Store


def create(parts: Parts) -> ASGIApp:
    probe = parts.clients.probe
    if probe is None:
        raise StartupError("the monitoring service needs a client that probes the others")
    store = Store(parts.database)
    health = HealthView(probe, parts.clock)
    collector = Collector(store, parts.events, parts.clock, parts.log, parts.metrics)

    async def merged() -> bytes:
        expositions, modules = await asyncio.gather(probe.metrics(), health.modules())
        # In a thread: reading some thousand lines would hold up everybody else.
        exposition, faults = await asyncio.to_thread(merge, expositions, modules)
        for fault in faults:
            parts.log.warning("metrics left out", fault=fault)
        return exposition

    return create_app(
        parts,
        routes(store, health, parts.clock),
        lifespan=[background("collector", collector.run, parts.log)],
        exposition=merged,
    )
