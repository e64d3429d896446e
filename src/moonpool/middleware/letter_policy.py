"""What becomes of a letter: which are kept, how often and when they are tried again. Pure.

attempt ──► good (below 400) ──────────────────────────────► ANSWERED
   ├──► again (408, 409, 425, 429, 5xx, no answer) ──► WAITING for 5 s, 10 s … 43 min, ten times ──► DEAD
   ├──► its route is switched off ──────────────────────────► as before: no attempt
   └──► fatal (any other refusal) ──────────────────────────► DEAD at once
"""

from collections.abc import Mapping
from enum import Enum
from random import Random

import msgspec

from moonpool.core.context import Context
from moonpool.core.message import Request
from moonpool.middleware.prefer import without
from moonpool.ports.dead_letters import Answered, Failed, Letter, Note, Sent, State

ATTEMPTS = 10
FIRST_DELAY = 5.0
"""Seconds after the first failed attempt; each further one waits twice as long."""
JITTER = 0.2
"""Share by which delays differ, so that what failed together does not come back together."""
SWITCHED_OFF_WAIT = 30.0
"""Seconds until a letter is looked at again that was sent just when its route was switched off."""
LONGEST_WAIT = 6 * 3600.0
"""Seconds for which an answer's Retry-After is obeyed."""
FAILURES = 10
"""Failed attempts that a letter remembers: the newest."""
KEPT_HEADERS = frozenset(
    {b"accept", b"accept-language", b"content-type", b"idempotency-key", b"prefer", b"user-agent"}
)
"""What of a request's headers is kept: no keys, no cookies, nothing that is not known to be harmless."""
ANSWER_HEADERS = frozenset({b"content-type", b"content-language", b"location", b"x-moonpool-release"})
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class Verdict(Enum):
    GOOD = "good"
    AGAIN = "again"
    FATAL = "fatal"


def judge(status: int) -> Verdict:
    if status < 400:
        return Verdict.GOOD
    return Verdict.AGAIN if status in _AGAIN else Verdict.FATAL


def delay(attempts: int, chance: Random) -> float:
    """Seconds until the next try after `attempts` (at least 1) failed ones."""
    return FIRST_DELAY * 2.0 ** (attempts - 1) * chance.uniform(1.0 - JITTER, 1.0 + JITTER)


def write(
    ctx: Context,
    request: Request,
    *,
    id: str,
    state: State,
    deferred: bool,
    cause: str,
    route: str,
    now: float,
) -> Letter:
    """The letter of a request whose body is bytes, with what was tried already. Work that is done later still
    has all its ATTEMPTS: those of the request that asked for it are not counted.
    """
    assert isinstance(request.body, bytes)
    principal = ctx.principal
    note = Note(
        id=id,
        request_id=ctx.request_id,
        dedupe=_dedupe(ctx, request, route),
        state=state,
        deferred=deferred,
        tenant=principal.tenant,
        user=principal.user,
        service=ctx.service,
        method=request.method,
        route=route,
        cause=cause,
        attempts=len(ctx.attempts) if state is State.DEAD else 0,
        created_at=now,
        updated_at=now,
        next_at=now,
    )
    sent = Sent(
        method=request.method,
        path=request.path,
        query=request.query,
        headers=scrub(request.headers),
        body=request.body,
        principal=principal,
    )
    return Letter(note=note, sent=sent, failures=_failures(ctx, now))


def _failures(ctx: Context, now: float) -> tuple[Failed, ...]:
    """The request's failed attempts, the newest. One that was left for another, faster one did not fail."""
    monotonic = ctx.clock.monotonic()
    return tuple(
        Failed(
            at=now - (monotonic - (attempt.started if attempt.ended is None else attempt.ended)),
            status=attempt.status or 0,
            code=attempt.code,
            message=attempt.error or "",
        )
        for attempt in ctx.attempts
        if attempt.code
    )[-FAILURES:]


def scrub(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Without secrets, and without the wish for a later answer, which is being fulfilled."""
    kept = {name: value for name, value in headers.items() if name in KEPT_HEADERS}
    if b"prefer" in kept:
        kept[b"prefer"] = without(kept[b"prefer"], "respond-async")
    return {name.decode(): value.decode("latin-1") for name, value in kept.items() if value}


def _dedupe(ctx: Context, request: Request, route: str) -> str:
    """The same for what is the same request: by the client's Idempotency-Key, else by the request's id."""
    given = request.headers.get(b"idempotency-key")
    name = f"request {ctx.request_id}" if given is None else f"key {given.decode('latin-1')}"
    principal = ctx.principal
    parts = [principal.tenant, principal.user, request.method, request.path, request.query, route, name]
    return "\n".join(parts)


def good(letter: Letter, answer: Answered, now: float) -> Letter:
    note = msgspec.structs.replace(
        letter.note, state=State.ANSWERED, attempts=letter.note.attempts + 1, updated_at=now
    )
    return msgspec.structs.replace(letter, note=note, answer=answer)


def put_off(letter: Letter, now: float) -> Letter:
    """As it was: its route is switched off, which is no attempt."""
    if letter.note.state is not State.WAITING:
        return letter
    note = msgspec.structs.replace(letter.note, next_at=now + SWITCHED_OFF_WAIT)
    return msgspec.structs.replace(letter, note=note)


def failed(
    letter: Letter,
    failure: Failed,
    verdict: Verdict,
    chance: Random,
    *,
    answer: Answered | None = None,
    wait: float | None = None,
) -> Letter:
    """After one more attempt in vain. `wait` is what the answer asked for (Retry-After, seconds)."""
    note = letter.note
    attempts = note.attempts + 1
    again = note.state is State.WAITING and verdict is Verdict.AGAIN and attempts < ATTEMPTS
    pause = max(delay(min(attempts, ATTEMPTS), chance), min(wait or 0.0, LONGEST_WAIT))
    changed = msgspec.structs.replace(
        note,
        state=State.WAITING if again else State.DEAD,
        attempts=attempts,
        cause=failure.code,
        updated_at=failure.at,
        next_at=failure.at + pause if again else 0.0,
    )
    failures = (*letter.failures, failure)[-FAILURES:]
    return msgspec.structs.replace(letter, note=changed, failures=failures, answer=answer)
