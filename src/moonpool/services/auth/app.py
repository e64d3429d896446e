"""auth's application, from its parts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.types import ASGIApp

from moonpool.asgi.app import create_app
from moonpool.asgi.background import background
from moonpool.asgi.once import Once
from moonpool.asgi.outbox import Outbox
from moonpool.asgi.parts import Parts
from moonpool.core.errors import StartupError
from moonpool.services.auth import tables
from moonpool.services.auth.activity import Activity
from moonpool.services.auth.admin_key import AdminKeyFile
from moonpool.services.auth.bootstrap import Bootstrap
from moonpool.services.auth.budgets import Budgets
from moonpool.services.auth.routes import handlers
from moonpool.services.auth.service import AuthService

PEPPER_LENGTH = 16
"""Bytes a pepper has at least."""


def create(parts: Parts) -> ASGIApp:
    """Raises StartupError without a pepper."""
    pepper = parts.secrets.get("pepper", b"")
    if len(pepper) < PEPPER_LENGTH:
        raise StartupError(
            f"auth needs a secret 'pepper' of at least {PEPPER_LENGTH} bytes",
            hint="It is made with the data folder; restore the folder's secrets.",
        )
    outbox = Outbox(
        tables.outbox, database=parts.database, events=parts.events, clock=parts.clock, log=parts.log
    )
    once = Once(tables.done_requests, parts.database, parts.clock)
    activity = Activity(parts.database, parts.clock, parts.log)
    bootstrap = Bootstrap(
        database=parts.database,
        file=AdminKeyFile(parts.data),
        outbox=outbox,
        pepper=pepper,
        clock=parts.clock,
        log=parts.log,
    )
    service = AuthService(
        database=parts.database,
        outbox=outbox,
        activity=activity,
        once=once,
        budgets=Budgets(parts.clients.budgets, parts.clients.model),
        pepper=pepper,
        clock=parts.clock,
        metrics=parts.metrics,
    )

    @asynccontextmanager
    async def installed(_: Litestar) -> AsyncIterator[None]:
        await bootstrap.start()
        yield

    return create_app(
        parts,
        handlers(service),
        lifespan=[
            installed,
            background("outbox", outbox.run, parts.log),
            background("done requests", once.run, parts.log),
            background("key activity", activity.run, parts.log),
            background("admin key recovery", bootstrap.run, parts.log),
        ],
    )
