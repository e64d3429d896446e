"""A request's decisions as the answer's `Server-Timing` field, for operators who ask for it. Pure.

    authentication;dur=0.04;desc="allow: cached", balancer;dur=0.21;desc="inference-0", total;dur=412.5

`dur` is milliseconds from the request's arrival to the decision; of an attempt, how long it took; of
`total`, to the answer's head. Syntax: W3C Server Timing §3 (a token, and quoted strings as RFC 9110 §5.6.4).
Bounded, since proxies refuse answers with large heads.
"""

import re

from moonpool.core.context import Attempt, Context
from moonpool.core.message import Request

ASKED = b"x-moonpool-explain"
NAME = b"server-timing"
ENTRIES = 32
BYTES = 3072
REASON = 96
"""Characters of one description."""
_NOT_TOKEN = re.compile(r"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_NOT_TEXT = re.compile(r"[^\x20-\x7e]")


def server_timing(ctx: Context, request: Request) -> bytes | None:
    """The field's value, when an administrator asks for it (`x-moonpool-explain: 1`); None otherwise.

    An administrator is whose role is admin or owner and whose key's scopes allow it.
    """
    if request.headers.get(ASKED) != b"1" or not ctx.principal.may("admin"):
        return None
    return render(ctx)


def render(ctx: Context) -> bytes:
    """What was decided so far. Beyond the bounds the middle is left out: how it began and how it ended tell
    most."""
    now = ctx.clock.monotonic()
    total = _entry("total", now - ctx.started, "")
    timed = [
        (at, _entry(name, at - ctx.started, f"{verdict}: {reason}" if reason else verdict))
        for name, verdict, reason, at in ctx.decisions
    ]
    timed += [
        (attempt.started, _attempt(number, attempt, now)) for number, attempt in enumerate(ctx.attempts, 1)
    ]
    timed.sort(key=lambda one: one[0])
    entries = [entry for _, entry in timed]
    if len(entries) > ENTRIES:
        entries = entries[: ENTRIES // 2] + entries[-ENTRIES // 2 :]
    room = BYTES - len(total)
    while entries and sum(map(len, entries)) + 2 * len(entries) > room:
        del entries[len(entries) // 2]
    return ", ".join([*entries, total]).encode("ascii")


def _attempt(number: int, attempt: Attempt, now: float) -> str:
    ended = now if attempt.ended is None else attempt.ended
    result = attempt.error or ("" if attempt.status is None else str(attempt.status))
    return _entry(f"attempt-{number}", ended - attempt.started, f"{attempt.endpoint} {result}".strip())


def _entry(name: str, seconds: float, text: str) -> str:
    entry = f"{_NOT_TOKEN.sub('-', name) or '-'};dur={seconds * 1000:.2f}"
    if not text:
        return entry
    text = _NOT_TEXT.sub("?", text[:REASON]).replace("\\", "\\\\").replace('"', '\\"')
    return f'{entry};desc="{text}"'
