"""Group commit: letters that arrive while others are being written share the next transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from moonpool.core.errors import Overloaded
from moonpool.ports.dead_letters import Letter, Note

BATCH = 64
"""Letters written in one transaction."""

Write = Callable[[Sequence[Letter]], Awaitable[Sequence[Note | Overloaded]]]


class _Pending(NamedTuple):
    letter: Letter
    done: "asyncio.Future[Note]"


class Intake:
    def __init__(self, write: Write) -> None:
        self._write = write
        self._pending: list[_Pending] = []
        self._flusher: asyncio.Task[None] | None = None

    async def put(self, letter: Letter) -> Note:
        """Returns when the letter is durable; one whose caller is cancelled is written all the same."""
        pending = _Pending(letter, asyncio.get_running_loop().create_future())
        self._pending.append(pending)
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush(), name="dead-letters-flush")
        return await pending.done

    async def idle(self) -> None:
        if self._flusher is not None:
            await self._flusher

    async def _flush(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
                await self._write_batch(batch)
        finally:
            self._flusher = None

    async def _write_batch(self, batch: list[_Pending]) -> None:
        verdicts: Sequence[Note | Exception]
        try:
            verdicts = await self._write([pending.letter for pending in batch])
        except Exception as error:  # noqa: BLE001 - a task's boundary: those who wait must hear of it
            verdicts = [error] * len(batch)
        for pending, verdict in zip(batch, verdicts, strict=True):
            if pending.done.done():
                continue  # its caller was cancelled
            if isinstance(verdict, Exception):
                pending.done.set_exception(verdict)
            else:
                pending.done.set_result(verdict)
