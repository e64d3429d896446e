"""Why a service cannot start, told as it is.

Litestar starts an application inside task groups of its own, which wrap what the start raises; the
runner wants the StartupError itself, for its message and its exit code.
"""

from litestar.types import ASGIApp, Receive, Scope, Send

from moonpool.core.errors import StartupError


class PlainStartupErrors:
    """Pure ASGI, around an application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if str(scope["type"]) != "lifespan":
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        except BaseExceptionGroup as group:
            error = first_startup_error(group)
            if error is None:
                raise
            raise error from None


def first_startup_error(error: BaseException) -> StartupError | None:
    """The StartupError that is in `error`, however deep."""
    if isinstance(error, StartupError):
        return error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            found = first_startup_error(inner)
            if found is not None:
                return found
    return None
