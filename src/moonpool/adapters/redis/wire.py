"""One connection to a Redis (RESP 2): whatever is asked goes out at once, and answers come in that order.

So a thousand requests that ask at the same time share one connection and a few packets, where a client that
lends connections needs a thousand. The price: who waits, waits for those before; so each use has a wire of
its own, and large values do not travel where limits are asked.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import hiredis

from moonpool.core.errors import StoreAway, Unavailable

Word = bytes | str | int | float
Reply = bytes | int | None | Sequence["Reply"]
Answer = asyncio.Future[Reply]
MOST_WAITING = 20_000
"""Unanswered at one time; beyond it a store that still answers is not fast enough for what is asked of it."""
LOOKS = 3
"""An answer is overdue when it is missed at so many looks, a third of the time-out apart. Looks are counted
instead of seconds: an event loop that was held up has not looked, and blames nobody."""

_MORE = object()
"""What the reader gives when an answer is not whole yet."""


class Refused(Unavailable):
    """The store has answered with an error."""


class Wire(asyncio.Protocol):
    """`on_lost` is called once, with the reason, when the connection was there and is not any more."""

    def __init__(self, timeout: float, on_lost: Callable[["Wire", str], None]) -> None:
        self._pause = timeout / LOOKS
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_MORE)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[Answer, int]] = deque()
        """With the number of looks there were before."""
        self._look: asyncio.TimerHandle | None = None
        self._looks = 0
        self._reason = ""
        self.unanswered = 0
        """What was asked in vain."""

    @property
    def lost(self) -> str:
        """Why it is of no use any more; "" while it is."""
        return "" if self._transport is not None else self._reason or "it is closed"

    def send(self, *words: Word) -> Answer:
        """Ask; raises Unavailable. A cancelled answer is not wanted: what was asked is done all the same."""
        transport = self._transport
        if transport is None or len(self._waiting) >= MOST_WAITING:
            self.unanswered += 1
            raise StoreAway("redis is away" if transport is None else "redis is too slow")
        answer: Answer = self._loop.create_future()
        self._waiting.append((answer, self._looks))
        transport.write(hiredis.pack_command(words))  # type: ignore[arg-type]  # its stub means tuple[…, ...]
        if self._look is None:
            self._look = self._loop.call_later(self._pause, self._look_at_oldest)
        return answer

    def drop(self, reason: str) -> None:
        """End the connection; all that wait are told."""
        transport, self._transport = self._transport, None
        if transport is not None:
            self._reason = reason
            transport.abort()
            self._fail_all()

    # ── asyncio.Protocol ───────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _MORE:
                answer, _ = self._waiting.popleft()
                if answer.done():  # nobody waits for it any more
                    continue
                if isinstance(reply, hiredis.ReplyError):
                    answer.set_exception(Refused(f"redis refuses: {reply}"))
                else:
                    answer.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.drop("it does not speak Redis' protocol")

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if not self._reason:
            self._reason = str(error) if error is not None and str(error) else "the connection has ended"
        self._fail_all()
        if self._look is not None:
            self._look.cancel()
        self._on_lost(self, self._reason)

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    def _look_at_oldest(self) -> None:
        self._look = None
        if not self._waiting:
            return
        self._looks += 1
        if self._looks - self._waiting[0][1] >= LOOKS:
            self.drop("it does not answer in time")
            return
        self._look = self._loop.call_later(self._pause, self._look_at_oldest)

    def _fail_all(self) -> None:
        while self._waiting:
            answer, _ = self._waiting.popleft()
            if not answer.done():
                self.unanswered += 1
                answer.set_exception(StoreAway(f"redis is away: {self._reason}"))
