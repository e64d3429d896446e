"""The chat service as an application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.types import ASGIApp

from moonpool.asgi.app import create_app
from moonpool.asgi.background import background
from moonpool.asgi.parts import Parts
from moonpool.contracts.config import DEFAULT_MODEL, PlatformConfig
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.core.errors import StartupError
from moonpool.services.chat.leases import Leases
from moonpool.services.chat.metrics import make_metrics
from moonpool.services.chat.routes import routes
from moonpool.services.chat.runner import Runner
from moonpool.services.chat.service import Chat
from moonpool.services.chat.store import Store

STORING = 1.0
"""Seconds of the time to drain that are kept for storing the answers that have not ended by then."""


def create(parts: Parts) -> ASGIApp:
    if parts.clients.inference is None:
        raise StartupError("the chat service needs a client of the inference service")
    leases = Leases(parts.database, parts.clock, instance=parts.instance)
    runner = Runner(leases, parts.clients.inference, parts.clock, parts.log, make_metrics(parts.metrics))
    store = Store(parts.database, parts.clock, instance=parts.instance)
    chat = Chat(
        store,
        runner,
        parts.clients.model,
        default_model=_first_model(parts.config),
        default_context=parts.config.engine.context,
    )

    if parts.documents is not None:
        parts.documents.subscribe(PLATFORM, lambda _name, _old, new: chat.use(_first_model(new)))

    @asynccontextmanager
    async def answers(_: Litestar) -> AsyncIterator[None]:
        if parts.slot:
            await runner.inherit(parts.slot)
        await runner.sweep()
        yield
        await parts.shutdown.within(runner.drain, keep=STORING)

    # Lifespans end in reverse order: the job still beats while the answers drain.
    return create_app(
        parts,
        routes(chat),
        lifespan=[
            background("done requests", store.once.run, parts.log),
            background("answers", runner.keep, parts.log),
            answers,
        ],
    )


def _first_model(config: PlatformConfig) -> str:
    return next(iter(config.models), DEFAULT_MODEL)
