"""The training service as an application."""

from litestar.types import ASGIApp

from moonpool.asgi.app import create_app
from moonpool.asgi.background import background
from moonpool.asgi.parts import Parts
from moonpool.services.training.routes import routes
from moonpool.services.training.service import Training
from moonpool.services.training.store import Store


def create(parts: Parts) -> ASGIApp:
    store = Store(parts.database, parts.clock)
    return create_app(
        parts,
        routes(Training(store, parts.clock)),
        lifespan=[background("done requests", store.once.run, parts.log)],
    )
