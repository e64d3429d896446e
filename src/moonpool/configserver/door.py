"""The door for watchers: who signs with the watching key may follow documents, as a module, and nothing else.

Every process follows documents. With the server's own key each of them could sign as an administrator.
"""

from typing import cast

from litestar.types import ASGIApp, Receive, Scope, Send

from moonpool.contracts import context as signed
from moonpool.contracts.documents.wire import CONFIG, WATCH
from moonpool.core.clock import Clock
from moonpool.core.errors import Unauthenticated
from moonpool.core.principal import Principal


class WatchersDoor:
    """Pure ASGI, around the whole application: what it lets in is signed again with the server's key."""

    def __init__(self, app: ASGIApp, *, watching_key: bytes, own_key: bytes, clock: Clock) -> None:
        self.app = app
        self._watching_key = watching_key
        self._own_key = own_key
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == WATCH:
            headers = [self._checked(name, value) for name, value in scope["headers"]]
            scope = cast(Scope, {**scope, "headers": headers})
        await self.app(scope, receive, send)

    def _checked(self, name: bytes, value: bytes) -> tuple[bytes, bytes]:
        """A watcher's context as the module's that it names; any other is for the application to judge."""
        if name != signed.HEADER:
            return name, value
        now = self._clock.time()
        try:
            issuer = signed.verify(self._watching_key, value, audience=CONFIG, now=now).issuer
        except Unauthenticated:
            return name, value
        principal = Principal(service=issuer)
        return name, signed.sign(self._own_key, issuer=issuer, audience=CONFIG, principal=principal, now=now)
