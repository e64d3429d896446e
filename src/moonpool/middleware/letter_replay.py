"""Sends letters again: one, or many at a measured pace that stops when the first ones fail.

Whoever replays claims the letter first, so that a worker, an operator and another gateway never send it
at the same time; one that was answered is never sent again. The request keeps its id and Idempotency-Key,
so that usage is counted once and a service that heard it before can tell.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from enum import StrEnum
from random import Random

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.core.clock import Clock
from moonpool.core.errors import MoonpoolError, Unavailable
from moonpool.core.message import Response
from moonpool.http.reading import read
from moonpool.middleware.letter_claim import LEASE, Claim
from moonpool.middleware.letter_policy import ANSWER_HEADERS, Verdict, failed, good, judge, put_off
from moonpool.middleware.switched_off import CODE as SWITCHED_OFF
from moonpool.ports.dead_letters import Answered, DeadLetters, Failed, Letter, State, Which

PATIENCE = 960.0
"""Seconds one attempt may take, the answer's body included."""
ANSWER_LIMIT = 8 * 1024 * 1024
"""Bytes of an answer that are kept."""
CANARIES = 3
"""As many failures in a row, at the beginning or later, and the rest is left alone."""
MESSAGE_LIMIT = 500

Perform = Callable[[Letter], Awaitable[Response]]
"""Sends the letter's request through the filters below the dead letter queue. May raise MoonpoolError."""
Sleep = Callable[[float], Awaitable[None]]


class Outcome(StrEnum):
    ANSWERED = "answered"
    ALREADY = "already answered"
    WAITING = "failed, waiting"
    DEAD = "failed, dead"
    OFF = "its route is switched off"
    BUSY = "at work elsewhere"
    GONE = "gone"


FAILURES = frozenset({Outcome.WAITING, Outcome.DEAD, Outcome.OFF})


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """`fatal`: this request was refused, or all of its route are, which says nothing about others."""

    id: str
    outcome: Outcome
    status: int = 0
    message: str = ""
    fatal: bool = False


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`stopped`: the first ones failed again, the rest was left alone. `after`: where to go on."""

    results: list[Result]
    stopped: bool
    has_more: bool
    after: str


class Canary:
    """Counts failures in a row; refusals of a request itself do not count. Pure."""

    def __init__(self, limit: int = CANARIES) -> None:
        self._limit = limit
        self._failures = 0

    def saw(self, result: Result) -> bool:
        """Whether to stop."""
        if result.outcome in FAILURES and not result.fatal:
            self._failures += 1
        elif result.outcome is Outcome.ANSWERED:
            self._failures = 0
        return self._failures >= self._limit


class Replays:
    def __init__(
        self,
        letters: DeadLetters,
        perform: Perform,
        clock: Clock,
        chance: Random,
        log: FilteringBoundLogger,
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._letters = letters
        self._perform = perform
        self._clock = clock
        self._chance = chance
        self._log = log
        self._sleep = sleep
        self.closed = False
        """This process ends: no letter is claimed any more."""

    def close(self) -> None:
        self.closed = True

    async def one(self, id: str) -> Result:
        """Raises Unavailable when the store is away, or this process is ending."""
        if self.closed:
            raise Unavailable("this process is ending: another one sends letters", retry_after=1.0)
        letter = await self._claim(id)
        if letter is None:
            return await self._not_claimed(id)
        claim = Claim(self._letters, letter, self._clock, self._log)
        try:
            async with claim:
                after, result = await self._attempt(letter)
        except asyncio.CancelledError:
            await claim.settle(letter)  # as it was: this was no verdict
            raise
        if not await claim.settle(after):
            return await self._not_claimed(id)
        self._log.info("letter sent again", id=id, outcome=result.outcome.value, status=result.status)
        return result

    async def many(self, which: Which, *, limit: int, rate: float, after: str = "") -> Report:
        """The oldest first, at most `limit` of them, `rate` a second. A process that is ending stops where it
        is: there is more, after the last one."""
        notes = await self._letters.page(which, limit=limit + 1, after=after, oldest=True)
        canary, results = Canary(), list[Result]()
        for note in notes[:limit]:
            if results:
                await self._sleep(1.0 / rate)
                if self.closed:
                    return Report(results=results, stopped=False, has_more=True, after=results[-1].id)
            results.append(await self.one(note.id))
            if canary.saw(results[-1]):
                return Report(results=results, stopped=True, has_more=True, after=note.id)
        last = results[-1].id if results else after
        return Report(results=results, stopped=False, has_more=len(notes) > limit, after=last)

    async def _claim(self, id: str) -> Letter | None:
        """Who is cancelled while the store writes the claim gives it back: nobody else would, for a lease."""
        now = self._clock.time()
        claiming = asyncio.ensure_future(self._letters.claim(id, now=now, until=now + LEASE))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with contextlib.suppress(MoonpoolError):
                letter = await claiming
                if letter is not None:
                    await self._letters.settle(letter)
            raise

    async def _not_claimed(self, id: str) -> Result:
        letter = await self._letters.get(id)
        if letter is None:
            return Result(id=id, outcome=Outcome.GONE)
        if letter.note.state is State.ANSWERED:
            status = letter.answer.status if letter.answer is not None else 0
            return Result(id=id, outcome=Outcome.ALREADY, status=status)
        return Result(id=id, outcome=Outcome.BUSY)

    async def _attempt(self, letter: Letter) -> tuple[Letter, Result]:
        answer, wait = None, None
        try:
            async with asyncio.timeout(PATIENCE):
                response = await self._perform(letter)
                body = await read(response.body, ANSWER_LIMIT)
            answer = _answer(response, body)
            verdict = judge(response.status)
            wait = _wait(response)
            status, code, message = response.status, *_told(response.status, body)
        except TimeoutError:
            verdict, status, code, message = Verdict.AGAIN, 504, "deadline_exceeded", "took too long"
        except MoonpoolError as error:
            verdict, wait = judge(error.status), error.retry_after
            status, code, message = error.status, error.code or type(error).__name__, error.message
        except Exception as error:  # noqa: BLE001 - the claim must end whatever a filter below does
            self._log.error("a letter could not be sent", id=letter.note.id, exc_info=error)
            verdict, status, code, message = Verdict.AGAIN, 500, "internal_error", type(error).__name__
        now, id = self._clock.time(), letter.note.id
        if verdict is Verdict.GOOD and answer is not None:
            return good(letter, answer, now), Result(id=id, outcome=Outcome.ANSWERED, status=status)
        if code == SWITCHED_OFF:
            off = Result(id=id, outcome=Outcome.OFF, status=status, message=message, fatal=True)
            return put_off(letter, now), off
        failure = Failed(at=now, status=status, code=code, message=message[:MESSAGE_LIMIT])
        after = failed(letter, failure, verdict, self._chance, answer=answer, wait=wait)
        outcome = Outcome.WAITING if after.note.state is State.WAITING else Outcome.DEAD
        fatal = verdict is Verdict.FATAL
        return after, Result(id=id, outcome=outcome, status=status, message=failure.message, fatal=fatal)


class _ErrorObject(msgspec.Struct):
    message: str = ""
    code: str | int | None = None


class _ErrorBody(msgspec.Struct):
    error: _ErrorObject


def _told(status: int, body: bytes) -> tuple[str, str]:
    """Code and message of an error object."""
    if status >= 400:
        try:
            error = msgspec.json.decode(body, type=_ErrorBody).error
            return str(error.code or f"status_{status}")[:64], error.message
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    return f"status_{status}", f"answered {status}"


def _answer(response: Response, body: bytes) -> Answered:
    kept = {
        name.decode(): value.decode("latin-1") for name, value in response.headers if name in ANSWER_HEADERS
    }
    return Answered(status=response.status, headers=kept, body=body)


def _wait(response: Response) -> float | None:
    value = response.header(b"retry-after")
    return float(value) if value is not None and value.isdigit() else None
