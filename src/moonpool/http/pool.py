"""The connections to one endpoint: last used first, bounded, gone when idle for too long."""

import asyncio
import ssl
from collections import deque

from moonpool.core.clock import Clock
from moonpool.core.errors import ConnectFailed
from moonpool.http.address import Address
from moonpool.http.upstream import UpstreamConnection


class Watch:
    """What the client keeps over all its pools: the exchanges under way."""

    __slots__ = ("active",)

    def __init__(self) -> None:
        self.active: set[UpstreamConnection] = set()


class Pool:
    """LIFO, so that few connections stay warm and the others expire."""

    def __init__(
        self,
        address: Address,
        *,
        watch: Watch,
        clock: Clock,
        ssl_context: ssl.SSLContext | None,
        max_idle: int,
        max_connections: int | None,
    ) -> None:
        self.clock = clock
        self._address = address
        self._active = watch.active
        self._ssl = ssl_context
        self._max_idle = max_idle
        self._max_connections = max_connections
        self._idle: list[UpstreamConnection] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._open = 0
        """Connections that exist or are being made."""
        self._closed = False

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def empty(self) -> bool:
        return not self._open and not self._waiting

    def take(self) -> UpstreamConnection | None:
        """An idle connection, the last used one, if there is any."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def connect(self, timeout: float) -> UpstreamConnection:
        """A fresh connection, or one that becomes idle first where their number is bounded.

        Raises ConnectFailed, also when no place becomes free within `timeout`.
        """
        try:
            async with asyncio.timeout(timeout):
                while self._max_connections is not None and self._open >= self._max_connections:
                    await self._wait()
                    connection = self.take()
                    if connection is not None:
                        return connection
                return await self._open_one()
        except TimeoutError:
            seconds = f"within {round(timeout, 2):g} s"
            raise ConnectFailed(
                f"the endpoint took no connection {seconds}",
                detail=f"no connection to {self._address} {seconds}",
            ) from None

    async def fresh(self, timeout: float) -> UpstreamConnection:
        """A connection that never served: the idle ones are closed first, they are as suspect."""
        self.expire(float("inf"))
        return await self.connect(timeout)

    async def _wait(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._wake()  # the place was ours for a moment: pass it on
            else:
                self._waiting.remove(place)
            raise

    async def _open_one(self) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        connection = UpstreamConnection(self, loop)
        address = self._address
        self._open += 1
        try:
            if address.socket_path:
                await loop.create_unix_connection(lambda: connection, address.socket_path)
            else:
                await loop.create_connection(
                    lambda: connection,
                    address.host,
                    address.port,
                    ssl=self._ssl if address.tls else None,
                    server_hostname=address.host if address.tls else None,
                )
        except BaseException as error:
            if connection.made:
                connection.abort()
            else:
                self._forget()
            if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                raise ConnectFailed(
                    "the endpoint cannot be reached",
                    detail=f"cannot connect to {self._address}: {error.strerror or error}",
                ) from error
            raise
        if not connection.usable:
            raise ConnectFailed(
                "the endpoint closed the connection at once",
                detail=f"{self._address} closed the connection at once",
            )
        return connection

    def _forget(self) -> None:
        self._open -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return

    # ── told by connections ────────────────────────────────────────────────────────────────────────

    def started(self, connection: UpstreamConnection) -> None:
        self._active.add(connection)

    def released(self, connection: UpstreamConnection) -> None:
        self._active.discard(connection)
        if self._closed or len(self._idle) >= self._max_idle:
            connection.abort()
            return
        connection.idle_since = self.clock.monotonic()
        self._idle.append(connection)
        if self._waiting:
            self._wake()

    def lost(self, connection: UpstreamConnection) -> None:
        self._active.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._forget()

    # ── told by the client ─────────────────────────────────────────────────────────────────────────

    def expire(self, before: float) -> None:
        """Close what has been idle since before `before` (monotonic seconds)."""
        keep = [connection for connection in self._idle if connection.idle_since >= before]
        if len(keep) != len(self._idle):
            gone = [connection for connection in self._idle if connection.idle_since < before]
            self._idle = keep
            for connection in gone:
                connection.abort()

    def close(self) -> None:
        self._closed = True
        self.expire(float("inf"))
