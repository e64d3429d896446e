"""The worker that sends waiting letters when their service is there.

    every second, and when something is deferred:
    services that came back ──► their letters are due now
    due letters of routes that are on ──► letter_schedule ──► letter_replay sends ──► the schedule learns

Any number of gateways may run one on the same store: claims keep letters apart.

A process that drains takes no more. What a service does for a letter is handed back at once, for another
process to have it done: services do it once, whoever asks (asgi/once.py). What a model answers is paid for by
the token, so it ends as a client's stream does, and is handed back when the time is over.
"""

import asyncio
from collections.abc import Callable, Collection

from structlog.typing import FilteringBoundLogger

from moonpool.core.clock import Clock
from moonpool.core.errors import MoonpoolError
from moonpool.middleware.letter_replay import FAILURES, Outcome, Replays
from moonpool.middleware.letter_schedule import Schedule
from moonpool.ports.dead_letters import DeadLetters, Note, RouteName

EVERY = 0.5
"""Seconds between looks: for so long what another process handed back may lie there."""
AFTER_TROUBLE = 1.0
MOMENT = 0.25
"""Seconds that a service's answer is still waited for: nearly all are there by then."""
LOOK = 64
"""Due letters looked at at a time."""
TIDY_EVERY = 60.0
ANSWERED_FOR = 24 * 3600.0
"""Seconds that answers can be fetched, as long as an Idempotency-Key is remembered."""
KEPT_FOR = 7 * 24 * 3600.0
"""Seconds that letters without an answer are kept."""


class LetterWorker:
    """`away` tells the services that have no instance to ask now, `off` the routes that an operator has
    switched off, and `paid` whether a letter's answer is paid for by what it takes."""

    def __init__(
        self,
        letters: DeadLetters,
        replays: Replays,
        away: Callable[[], Collection[str]],
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        paid: Callable[[Note], bool] = lambda note: False,
        off: Callable[[], Collection[RouteName]] = tuple,
        schedule: Schedule | None = None,
        answered_for: float = ANSWERED_FOR,
        kept_for: float = KEPT_FOR,
    ) -> None:
        self._letters = letters
        self._replays = replays
        self._away = away
        self._clock = clock
        self._log = log
        self._paid = paid
        self._off = off
        self._schedule = schedule or Schedule()
        self._answered_for = answered_for
        self._kept_for = kept_for
        self._working: dict[asyncio.Task[None], Note] = {}
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._tidied = float("-inf")
        self._draining = False

    def wake(self) -> None:
        """Look now rather than at the next second."""
        self._woken.set()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="letters")

    async def stop(self) -> None:
        """What is under way is given back as it was."""
        task, self._task = self._task, None
        tasks = [*self._working, *([task] if task is not None else [])]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def drain(self, seconds: float) -> None:
        """Take nothing more; end or hand back what is under way, in `seconds` at most."""
        self._draining = True
        self._replays.close()
        working = dict(self._working)
        mine = [task for task, note in working.items() if self._paid(note)]
        await asyncio.gather(
            _end([task for task in working if task not in mine], min(MOMENT, seconds)), _end(mine, seconds)
        )

    async def tick(self) -> None:
        """One look. Raises MoonpoolError when the store is away."""
        if self._draining:
            return
        now = self._clock.monotonic()
        for service in self._schedule.returned(self._away()):
            count = await self._letters.hasten(service, now=self._clock.time())
            if count:
                self._log.info("a service is back", service=service, letters=count)
        held = self._schedule.held(now)
        due = await self._letters.due(now=self._clock.time(), limit=LOOK, without=held, off=self._off())
        for note in self._schedule.choose(due, tuple(self._working.values()), now):
            if self._replays.closed:  # meanwhile
                return
            task = asyncio.create_task(self._send(note), name=f"letter {note.id}")
            self._working[task] = note
            task.add_done_callback(self._done)
        if now - self._tidied >= TIDY_EVERY:
            self._tidied = now
            await self._tidy()

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while self._working:
            await asyncio.wait(tuple(self._working))

    def _done(self, task: "asyncio.Task[None]") -> None:
        del self._working[task]
        self._woken.set()  # there may be more

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self.tick()
            except MoonpoolError as error:
                self._log.warning("letters cannot be sent", reason=error.detail)
                await asyncio.sleep(AFTER_TROUBLE)
            except Exception as error:  # noqa: BLE001 - the task's boundary: letters must not wait for ever
                self._log.error("the letters' worker failed", exc_info=error)
                await asyncio.sleep(AFTER_TROUBLE)
            try:
                async with asyncio.timeout(EVERY):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _send(self, note: Note) -> None:
        try:
            result = await self._replays.one(note.id)
        except MoonpoolError as error:
            self._log.warning("a letter could not be sent", id=note.id, reason=error.detail)
            self._schedule.failed(note.service, self._clock.monotonic())
            return
        if result.outcome in FAILURES and not result.fatal:
            self._schedule.failed(note.service, self._clock.monotonic())
        elif result.outcome is Outcome.ANSWERED:
            self._schedule.succeeded(note.service)

    async def _tidy(self) -> None:
        now = self._clock.time()
        deleted = await self._letters.retain(
            answered_before=now - self._answered_for, dead_before=now - self._kept_for
        )
        if deleted:
            self._log.info("old letters deleted", count=deleted)


async def _end(tasks: list["asyncio.Task[None]"], seconds: float) -> None:
    """Let them end; after `seconds` give back what they hold."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
