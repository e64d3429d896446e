"""The edge server: listening sockets in, connections out, one sweep for all their times."""

import asyncio
import contextlib
import socket
import ssl as tls
from collections.abc import Callable, Sequence

from moonpool.core.clock import SYSTEM_CLOCK, Clock
from moonpool.core.errors import MoonpoolError
from moonpool.core.message import Request, Response
from moonpool.http.connection import Connection
from moonpool.http.head import ACCEPTED_PRIVATE
from moonpool.http.host import Application
from moonpool.http.limits import BodyPolicy, Limits
from moonpool.http.writing import DateField

_BACKLOG = 4096


class Server:
    """Serves `application` on sockets that somebody else bound and owns.

    `render_error` makes an error's answer; `render_stream_error` the bytes of the last event of a
    broken event stream (`data: …` with its blank line). `body_policy` is asked, with head only, for
    each request that has a body.
    """

    def __init__(
        self,
        application: Application,
        *,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        render_error: Callable[[MoonpoolError], Response],
        render_stream_error: Callable[[Exception], bytes],
        body_policy: Callable[[Request], BodyPolicy] | None = None,
        ssl: tls.SSLContext | None = None,
        clock: Clock = SYSTEM_CLOCK,
        accepted_private: frozenset[bytes] = ACCEPTED_PRIVATE,
    ) -> None:
        self.application = application
        self.limits = limits
        self.render_error = render_error
        self.render_stream_error = render_stream_error
        self.body_policy = body_policy
        self.accepted_private = accepted_private
        self.clock = clock
        self.date = DateField(clock)
        self.draining = False
        self.active = 0
        """Requests whose answer is not complete, streams included."""
        self._ssl = ssl
        self._connections: set[Connection] = set()
        self._servers: list[asyncio.AbstractServer] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        times = (limits.header_timeout, limits.idle_timeout, limits.slow_reader_timeout, limits.body_grace)
        self._interval = min(1.0, *(time / 4 for time in times), limits.linger / 2)

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept on duplicates of `sockets` (bound TCP or Unix): the caller's stay open and theirs."""
        loop = asyncio.get_running_loop()

        def connect() -> Connection:
            return Connection(self, loop)

        for original in sockets:
            sock = original.dup()
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:  # accepted connections have it from the listening one
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, self.limits.kernel_unsent)
            create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
            server = await create(connect, sock=sock, ssl=self._ssl, backlog=_BACKLOG)
            self._servers.append(server)
        self._sweeper = loop.call_later(self._interval, self._sweep, loop)

    async def drain(self, timeout: float, *, idle: float = 0.0) -> int:
        """Take nothing new, let what runs finish for `timeout` seconds, cut the rest: how many it was.

        For `idle` of these seconds resting connections stay open. A client that uses its one in that time is
        answered, and told to close it; closed at once, its request would cross the close and be lost. That
        is for who has a successor on the same sockets: without one the next connection is refused anyway.
        """
        self.draining = True
        deadline = asyncio.get_running_loop().time() + timeout
        for server in self._servers:
            server.close()
        self._servers.clear()
        await self._until_empty(min(idle, timeout))
        for connection in list(self._connections):
            connection.drain()
        await self._until_empty(deadline - asyncio.get_running_loop().time())
        cut = sum(connection.busy for connection in self._connections)
        while self._connections:
            self._empty.clear()
            for connection in list(self._connections):
                connection.abort()
            await self._empty.wait()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        return cut

    async def _until_empty(self, seconds: float) -> None:
        if self._connections and seconds > 0:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)

    # ── for connections ────────────────────────────────────────────────────────────────────────────

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self.clock.monotonic()
        for connection in list(self._connections):
            connection.sweep(now)
        self._sweeper = loop.call_later(self._interval, self._sweep, loop)
