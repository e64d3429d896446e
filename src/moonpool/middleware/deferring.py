"""Puts requests into the queue: those to be done later, and those for which everything has failed.

Implements contracts.fallback.Later, so that services' fallbacks defer through the same door.
"""

from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from moonpool.core.clock import Clock
from moonpool.core.context import Context
from moonpool.core.errors import MoonpoolError, Unavailable
from moonpool.core.ids import new_id
from moonpool.core.message import Request
from moonpool.middleware.causes import Cause, Causes
from moonpool.middleware.letter_policy import write
from moonpool.ports.dead_letters import DeadLetters, State

PREFIX = "dl"
CAPTURES = 128
"""Letters being written at a time: an outage must not turn every request into a wait for the disk."""


class Deferring:
    """`wake` is called when something is to be done."""

    def __init__(
        self,
        letters: DeadLetters,
        causes: Causes,
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        wake: Callable[[], None],
    ) -> None:
        self._letters = letters
        self._causes = causes
        self._clock = clock
        self._log = log
        self._wake = wake
        self._capturing = 0

    async def defer(self, ctx: Context, request: Request, *, reason: str, route: str = "") -> str:
        """Raises Overloaded or Unavailable when it cannot be kept: then it was not accepted."""
        if not isinstance(request.body, bytes):
            raise Unavailable("a body that is passed on as it arrives cannot be sent later")
        id = await self._put(ctx, request, State.WAITING, reason, route or ctx.route.path, deferred=True)
        ctx.decide("dead letter", "deferred", f"{id}: {reason}")
        self._wake()
        return id

    async def capture(self, ctx: Context, request: Request, cause: str) -> str | None:
        """Keep what has failed for a person to look at. None, with the reason in the decisions, when it
        cannot be kept: that must not change the answer."""
        if not isinstance(request.body, bytes):
            ctx.decide("dead letter", "not kept", "its body was passed on as it arrived")
            return None
        if self._capturing >= CAPTURES:
            ctx.decide("dead letter", "not kept", f"{self._capturing} others are being written")
            return None
        self._capturing += 1
        try:
            id = await self._put(ctx, request, State.DEAD, cause, ctx.route.path, deferred=False)
        except MoonpoolError as error:
            ctx.decide("dead letter", "not kept", error.message)
            self._log.error("a dead letter was lost", request_id=ctx.request_id, reason=error.message)
            return None
        finally:
            self._capturing -= 1
        ctx.decide("dead letter", "kept", id)
        return id

    async def _put(
        self, ctx: Context, request: Request, state: State, cause: str, route: str, *, deferred: bool
    ) -> str:
        now = self._clock.time()
        id = new_id(PREFIX, self._clock)
        letter = write(ctx, request, id=id, state=state, deferred=deferred, cause=cause, route=route, now=now)
        note = await self._letters.put(letter)
        template = f"{request.method} {route}"
        self._causes.note(
            Cause("dead_letter", ctx.service, template, cause), request_id=ctx.request_id, message=note.id
        )
        self._log.warning(
            "dead letter",
            id=note.id,
            state=note.state.value,
            service=ctx.service,
            route=template,
            cause=cause,
            request_id=ctx.request_id,
        )
        return note.id
