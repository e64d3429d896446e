"""A claim on a letter, for as long as its holder is at work: short, and renewed, so that a letter whose
sender was killed is soon another's, and one that takes minutes is nobody else's meanwhile.

    claimed ──every RENEW──► renewed … ──► settled        sender killed: free after LEASE

Who was held up for longer than a lease has lost it: what it then has to say changes nothing any more.
"""

import asyncio
import contextlib
from types import TracebackType

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.core.clock import Clock
from moonpool.core.errors import MoonpoolError
from moonpool.ports.dead_letters import DeadLetters, Letter

LEASE = 30.0
"""Seconds after which a letter whose sender died may be sent by another."""
RENEW = LEASE / 3


class Claim:
    """`async with` it around the work; `settle` after that. `letter` is as it was claimed."""

    def __init__(
        self,
        letters: DeadLetters,
        letter: Letter,
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        every: float = RENEW,
    ) -> None:
        self._letters = letters
        self._letter = letter
        self._clock = clock
        self._log = log
        self._every = every
        self._until = letter.note.leased_until
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Letter:
        self._task = asyncio.create_task(self._keep(), name=f"claim {self._letter.note.id}")
        return self._letter

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._task is not None:
            await asyncio.shield(self._task)  # not cancelled: a renewal that is written must be known

    async def settle(self, letter: Letter) -> bool:
        """What became of it; False when it is another's by now. Who is cancelled meanwhile still writes."""
        note = msgspec.structs.replace(letter.note, leased_until=self._until)
        settled = await asyncio.shield(self._letters.settle(msgspec.structs.replace(letter, note=note)))
        if not settled:
            self._log.warning("a letter was not its sender's any more", id=note.id)
        return settled

    async def _keep(self) -> None:
        while not await self._waited():
            until = self._clock.time() + LEASE
            try:
                if not await self._letters.renew(self._letter.note.id, held=self._until, until=until):
                    return
            except MoonpoolError as error:
                self._log.warning("a claim could not be renewed", reason=error.message)
                continue
            self._until = until

    async def _waited(self) -> bool:
        """For the next renewal; whether the work is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._every):
                await self._over.wait()
        return self._over.is_set()
