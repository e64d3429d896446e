"""user's application, from its parts."""

from litestar.types import ASGIApp

from moonpool.asgi.app import create_app
from moonpool.asgi.parts import Parts
from moonpool.services.user.routes import handlers
from moonpool.services.user.service import UserService


def create(parts: Parts) -> ASGIApp:
    return create_app(parts, handlers(UserService(parts.database, parts.clock)))
