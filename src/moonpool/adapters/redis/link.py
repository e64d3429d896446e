"""A wire to a Redis that is made again whenever it breaks.

    away ──connected, prepared──► up ──broken, overdue, dropped──► away

While it is away nobody waits for it: asking raises at once. That it is away, and that it is back, is logged
once each, with how much was asked in vain; who asks need not tell.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import Awaitable, Callable

import structlog

from moonpool.adapters.redis.address import Address
from moonpool.adapters.redis.wire import Answer, Wire, Word
from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.core.errors import StoreAway, Unavailable

CONNECT = 1.0
"""Seconds for a connection, its TLS, and what prepares it."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
STEADY = 5.0
"""Seconds after which a connection counts as having worked: the pause after it is short again."""

Prepare = Callable[[Wire], Awaitable[None]]


async def _nothing(wire: Wire) -> None:
    """To be connected is enough."""


class Link:
    """`use` and `meanwhile` are for the log: what it is for, and what is done without it. `prepare` is called
    with each new connection before it counts; it raises Unavailable when the store is of no use."""

    def __init__(
        self, address: Address, *, use: str, meanwhile: str, timeout: float, prepare: Prepare = _nothing
    ) -> None:
        self._address = address
        self._timeout = address.timeout or timeout
        self._prepare = prepare
        self._wire: Wire | None = None
        self._lost = asyncio.Event()
        self._first = asyncio.Event()
        self._reason = "it was not asked yet"
        self._task: asyncio.Task[None] | None = None
        self._away_since: float | None = None
        self._unanswered = 0
        self._meanwhile = meanwhile
        self._log = structlog.get_logger().bind(store=str(address), use=use)
        self._tls = ssl.create_default_context() if address.tls else None

    @property
    def known(self) -> bool:
        """Whether it was found to be up or away; not before `start`."""
        return self._first.is_set()

    @property
    def up(self) -> bool:
        return self._wire is not None

    async def start(self) -> None:
        """Returns when it is connected, or known to be away; at once when it was started before."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name="redis")
        await self._first.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._reason = "it is closed"
        if self._wire is not None:
            self._wire.drop(self._reason)
            self._wire = None

    def send(self, *words: Word) -> Answer:
        """Raises Unavailable while it is away."""
        wire = self._wire
        if wire is None:
            self._unanswered += 1
            raise StoreAway(f"redis is away: {self._reason}", retry_after=1.0)
        return wire.send(*words)

    def drop(self, reason: str) -> None:
        """What it answers is of no use: begin anew."""
        wire = self._wire
        if wire is not None:
            self._on_lost(wire, reason)
            wire.drop(reason)

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    async def _keep(self) -> None:
        pause, loop = FIRST_PAUSE, asyncio.get_running_loop()
        while True:
            try:
                wire = await self._connect()
            except (OSError, TimeoutError, Unavailable) as error:
                self._tell_away(str(error) or "no connection in time")
            else:
                self._tell_back()
                began = loop.time()
                await self._lost.wait()
                self._unanswered += wire.unanswered
                self._tell_away(self._reason)
                if loop.time() - began > STEADY:
                    pause = FIRST_PAUSE
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads, guards nothing
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _connect(self) -> Wire:
        address, loop = self._address, asyncio.get_running_loop()
        self._lost.clear()
        async with asyncio.timeout(CONNECT):
            _, wire = await loop.create_connection(
                lambda: Wire(self._timeout, self._on_lost),
                address.host,
                address.port,
                ssl=self._tls,
            )
            try:
                if address.password:
                    names = (address.user,) if address.user else ()
                    await wire.send("AUTH", *names, address.password)
                if address.database:
                    await wire.send("SELECT", address.database)
                await wire.send("PING")
                await self._prepare(wire)
                if wire.lost:
                    raise Unavailable(wire.lost)
            except BaseException:
                wire.drop("it could not be prepared")
                raise
        self._wire = wire
        return wire

    def _on_lost(self, wire: Wire, reason: str) -> None:
        if self._wire is wire:
            self._wire, self._reason = None, reason
            self._lost.set()

    def _tell_away(self, reason: str) -> None:
        self._first.set()
        self._reason = reason
        if self._away_since is None:
            self._away_since = SYSTEM_CLOCK.monotonic()
            self._log.warning("redis is away", reason=reason, meanwhile=self._meanwhile)

    def _tell_back(self) -> None:
        self._first.set()
        if self._away_since is not None:
            away = SYSTEM_CLOCK.monotonic() - self._away_since
            unanswered, self._unanswered, self._away_since = self._unanswered, 0, None
            self._log.info("redis is back", away_seconds=round(away, 3), unanswered=unanswered)
