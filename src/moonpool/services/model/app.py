"""model's application, from its parts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from litestar import Litestar
from litestar.types import ASGIApp

from moonpool.asgi.app import create_app
from moonpool.asgi.background import background
from moonpool.asgi.outbox import Outbox
from moonpool.asgi.parts import Parts
from moonpool.contracts.documents.local_models import configured_models
from moonpool.services.model import tables
from moonpool.services.model.configured import Configured
from moonpool.services.model.resolve import loaded_aliases
from moonpool.services.model.routes import handlers
from moonpool.services.model.service import ModelService


def create(parts: Parts) -> ASGIApp:
    """The catalogue is of the configuration before the first request is answered, and follows it."""
    models = configured_models(parts.config)
    outbox = Outbox(
        tables.outbox, database=parts.database, events=parts.events, clock=parts.clock, log=parts.log
    )
    service = ModelService(
        database=parts.database,
        outbox=outbox,
        clock=parts.clock,
        log=parts.log,
        loaded={alias: fingerprint(Path(file)) for alias, file in loaded_aliases(models).items()},
        allow_private=parts.config.gateway.allow_private_targets,
        local_context=parts.config.engine.context,
    )

    changes = Configured(parts.config, service, parts.log)
    if parts.documents is not None:
        changes.follow(parts.documents)
    parts.shutdown.on_begin(service.release_waiting)

    @asynccontextmanager
    async def configured(_: Litestar) -> AsyncIterator[None]:
        await service.import_configured(models)
        yield

    return create_app(
        parts,
        handlers(service),
        lifespan=[
            configured,
            background("configuration", changes.run, parts.log),
            background("outbox", outbox.run, parts.log),
        ],
    )


def fingerprint(file: Path) -> str:
    """What changes when a file of weights is replaced; "" where it cannot be seen (the packaged one, or
    one on the machine of the inference service)."""
    try:
        status = file.expanduser().stat()
    except OSError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"
