"""The storage service as an application."""

import asyncio

from litestar.types import ASGIApp

from moonpool.asgi.app import create_app
from moonpool.asgi.background import background
from moonpool.asgi.parts import Parts
from moonpool.services.storage.pages import load_pages
from moonpool.services.storage.routes import file_routes, page_routes
from moonpool.services.storage.service import Files
from moonpool.services.storage.store import Store

SWEEP_EVERY = 3600.0


def create(parts: Parts) -> ASGIApp:
    files = Files(Store(parts.database), parts.objects, parts.clock, parts.log)

    async def sweep() -> None:
        while True:
            await files.sweep()
            await asyncio.sleep(SWEEP_EVERY)

    return create_app(
        parts,
        [*file_routes(files), *page_routes(load_pages())],
        lifespan=[background("sweep", sweep, parts.log)],
        # Optional: the pages are of use without them.
        optional={"objects": parts.objects.ping},
    )
