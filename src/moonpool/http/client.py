"""The upstream client: one `send`, pools by address, coarse timers.

A request that met a dead connection is repeated, once and on a fresh connection, only if

  * the connection had served before (a fresh one that breaks says something about the endpoint),
  * not a byte of an answer had come,
  * the body is bytes, and the method is idempotent (RFC 9110 §9.2.2).

Everything else is ConnectionReset: whether a POST may be sent again is for the retry filter to say,
which knows the route and the budget. To make that rare, a connection that rested for a while gives
the loop one turn to notice that its peer has closed, before anything is written on it.
"""

import asyncio
import ssl
from typing import NamedTuple

from moonpool.core.clock import SYSTEM_CLOCK, Clock
from moonpool.core.errors import ConnectFailed, ConnectionReset
from moonpool.core.message import Request, Response
from moonpool.http.address import Address
from moonpool.http.framing import IDEMPOTENT
from moonpool.http.pool import Pool, Watch
from moonpool.http.sending import render_request
from moonpool.http.upstream import UpstreamConnection

_TICK = 0.05
"""Seconds between looks at exchanges under way: the precision of their time-outs."""
_IDLE_TICK = 1.0
_RESTED = 0.5
"""Idle seconds after which a connection may have been closed by its peer unnoticed."""


class ClientStats(NamedTuple):
    active: int
    idle: int


class Client:
    """Shared by everything in a process that calls endpoints; belongs to the running loop.

    `ssl_context` None: the system's trust store, with verification.
    """

    def __init__(
        self,
        *,
        clock: Clock = SYSTEM_CLOCK,
        ssl_context: ssl.SSLContext | None = None,
        max_idle: int = 64,
        max_connections: int | None = None,
        idle_expiry: float = 30.0,
    ) -> None:
        self._clock = clock
        self._ssl = ssl_context
        self._max_idle = max_idle
        self._max_connections = max_connections
        self._idle_expiry = idle_expiry
        self._pools: dict[Address, Pool] = {}
        self._watch = Watch()
        self._active = self._watch.active
        self._timer: asyncio.TimerHandle | None = None
        self._expire_at = 0.0
        self._fast = False
        self._closed = False

    @property
    def stats(self) -> ClientStats:
        return ClientStats(len(self._active), sum(pool.idle for pool in self._pools.values()))

    async def send(
        self,
        address: Address,
        request: Request,
        *,
        connect_timeout: float,
        first_byte_timeout: float,
        idle_timeout: float,
    ) -> Response:
        """The endpoint's answer: whole if its declared length is small, else with a Stream.

        Raises ConnectFailed, ConnectionReset, FirstByteTimeout, UpstreamMalformed, and for bodies that
        are collected StreamTruncated and StreamStalled; a Stream fails with the same. Cancelling
        this call or the Stream closes the connection.
        """
        pool = self._pools.get(address) or self._new_pool(address)
        data = render_request(address, request)
        connection = pool.take()
        if connection is None:
            connection = await pool.connect(connect_timeout)
        elif self._clock.monotonic() - connection.idle_since > _RESTED:
            connection = await self._awake(pool, connection, connect_timeout)
        waiter = connection.begin(request, data, first_byte_timeout, idle_timeout)
        again = request if _repeatable(connection, request) else None
        del data, request  # thousands may wait here: none with a copy of what it has sent
        if not self._fast:
            self._watch_closely()
        try:
            return await waiter
        except asyncio.CancelledError:
            connection.drop(waiter)
            raise
        except ConnectionReset:
            if again is None or connection.heard:
                raise
        connection = await pool.fresh(connect_timeout)
        data = render_request(address, again)
        return await self._exchange(connection, again, data, first_byte_timeout, idle_timeout)

    async def _exchange(
        self,
        connection: UpstreamConnection,
        request: Request,
        data: bytes,
        first_byte_timeout: float,
        idle_timeout: float,
    ) -> Response:
        waiter = connection.begin(request, data, first_byte_timeout, idle_timeout)
        if not self._fast:
            self._watch_closely()
        try:
            return await waiter
        except asyncio.CancelledError:
            connection.drop(waiter)
            raise

    async def _awake(self, pool: Pool, connection: UpstreamConnection, timeout: float) -> UpstreamConnection:
        """`connection`, or another if it turns out to be closed after one turn of the loop."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pool.released(connection)
            raise
        return connection if connection.usable else await pool.fresh(timeout)

    def _new_pool(self, address: Address) -> Pool:
        if self._closed:
            raise ConnectFailed("the client is closed")
        if address.tls and self._ssl is None:
            self._ssl = ssl.create_default_context()
        pool = self._pools[address] = Pool(
            address,
            watch=self._watch,
            clock=self._clock,
            ssl_context=self._ssl,
            max_idle=self._max_idle,
            max_connections=self._max_connections,
        )
        return pool

    async def aclose(self) -> None:
        """Close everything; exchanges under way get ConnectionReset or a failed stream."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for pool in self._pools.values():
            pool.close()
        for connection in list(self._active):
            connection.shut()
        await asyncio.sleep(0)
        self._pools.clear()

    # ── time ───────────────────────────────────────────────────────────────────────────────────────

    def _watch_closely(self) -> None:
        self._fast = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_TICK, self._sweep)

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        for connection in list(self._active):
            connection.sweep(now)
        if now >= self._expire_at:
            self._expire_at = now + _IDLE_TICK
            for address, pool in list(self._pools.items()):
                pool.expire(now - self._idle_expiry)
                if pool.empty:
                    del self._pools[address]
        self._fast = bool(self._active)
        delay = _TICK if self._fast else _IDLE_TICK
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(delay, self._sweep) if self._pools and not self._closed else None


def _repeatable(connection: UpstreamConnection, request: Request) -> bool:
    """Whether it may be sent once more when the connection is found closed (RFC 9110 §9.2.2)."""
    return connection.served > 0 and request.method in IDEMPOTENT and isinstance(request.body, bytes)
