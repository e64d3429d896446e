"""One running answer in memory: written by its task, read by any number of clients at any pace.

The events are a log, so that who joins late gets the answer from its beginning, and a slow reader holds
nothing up and has no queue of its own. A run belongs to the service, not to a request.
"""

import asyncio
from collections.abc import AsyncIterator

from moonpool.core.errors import PayloadTooLarge
from moonpool.services.chat.answer import Answer
from moonpool.services.chat.endings import Failure
from moonpool.services.chat.leases import Partial
from moonpool.services.chat.schema import Status

LOG_LIMIT = 16 * 1024 * 1024
"""Bytes of events one answer may have: some 60,000 tokens as chunks."""


class Run:
    """`id` is the answer's message id, `metered_as` that of its usage: another for each run of it."""

    def __init__(self, id: str, conversation: str, *, metered_as: str) -> None:
        self.id = id
        self.metered_as = metered_as
        self.conversation = conversation
        self.answer = Answer()
        self.task: asyncio.Task[None] | None = None
        self.stopping: Status | None = None
        """Set when it was told to stop: CANCELLED or INTERRUPTED."""
        self.settling = False
        """It is over and only has to be stored: too late to stop it."""
        self.failure: Failure | None = None
        self.streaming = False
        """The model has begun to answer: a failure after that is an event, before it a status."""
        self.opened = asyncio.Event()
        """Set when `streaming` or `failure` is known."""
        self.ended = asyncio.Event()
        """Set after the answer was stored and its last event is in the log."""
        self._log: list[bytes] = []
        self._size = 0
        self._changed = asyncio.Event()

    def stop(self, status: Status) -> None:
        """End it early, to be stored as `status`. Safe at any time."""
        if self.stopping is None and not self.settling:
            self.stopping = status
            if self.task is not None:
                self.task.cancel()

    def partial(self) -> Partial:
        return Partial(id=self.id, content=self.answer.content, reasoning=self.answer.reasoning)

    def emit(self, data: bytes) -> None:
        """Pass one event on to all readers. Raises PayloadTooLarge when the log is full."""
        event = b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"
        if self._size + len(event) > LOG_LIMIT:
            raise PayloadTooLarge("The answer is too long to be kept.", code="answer_too_long")
        self._append(event)

    def close(self, last: bytes) -> None:
        """The last event: nothing comes after it."""
        self._append(b"data: " + last + b"\n\n")
        self.ended.set()
        self.opened.set()
        self._wake()

    async def follow(self) -> AsyncIterator[bytes]:
        """All events from the first, then live to the end."""
        position = 0
        while True:
            changed = self._changed
            if position < len(self._log):
                batch = b"".join(self._log[position:])
                position = len(self._log)
                yield batch
            elif self.ended.is_set():
                return
            else:
                await changed.wait()

    def _append(self, event: bytes) -> None:
        self._log.append(event)
        self._size += len(event)
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
