"""The config server's application, from its parts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from litestar import Litestar
from litestar.types import ASGIApp

from moonpool.asgi.app import create_app
from moonpool.asgi.background import background
from moonpool.asgi.parts import Parts
from moonpool.configserver.door import WatchersDoor
from moonpool.configserver.hub import Hub
from moonpool.configserver.judging import Judge
from moonpool.configserver.routes import handlers
from moonpool.configserver.service import ConfigService, Keep
from moonpool.configserver.takeover import GivenFile
from moonpool.contracts.documents.kinds import Kinds
from moonpool.contracts.documents.wire import Snapshot


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the config server is given beside the parts that every service has.

    The database is not started yet: this server is of use without one. `environ` is the environment of the
    platform's processes.
    """

    kinds: Kinds
    environ: dict[str, str]
    watching_key: bytes
    """What modules sign with that may follow documents, and nothing else."""
    given: GivenFile | None = None
    kept: Snapshot | None = None
    keep: Keep = lambda snapshot: None


def create(parts: Parts, setup: Setup) -> ASGIApp:
    hub = Hub()
    service = ConfigService(
        database=parts.database,
        judge=Judge(setup.kinds, setup.environ),
        hub=hub,
        clock=parts.clock,
        log=parts.log,
        given=setup.given,
        kept=setup.kept,
        keep=setup.keep,
    )
    parts.shutdown.on_begin(hub.close)

    @asynccontextmanager
    async def running(_: Litestar) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    app = create_app(
        parts,
        handlers(service, hub, setup.kinds),
        lifespan=[running, background("recover", service.recover, parts.log)],
        optional={"documents": service.check},
        standalone=True,
    )
    return WatchersDoor(app, watching_key=setup.watching_key, own_key=parts.context_key, clock=parts.clock)
