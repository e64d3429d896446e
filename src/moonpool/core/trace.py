"""A place in a distributed trace (W3C Trace Context, level 1), and the one of the work that is going on.

Ids are lower-case hex digits, 32 for a trace and 16 for a span; all zeros is none.
"""

import re
from contextvars import ContextVar
from typing import NamedTuple

SAMPLED = 1
"""The flag by which a caller says that it records this trace."""
_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16


class Place(NamedTuple):
    trace_id: str
    span_id: str
    flags: int = 0
    state: str = ""


CURRENT: ContextVar[Place | None] = ContextVar("moonpool_trace", default=None)
"""The span that the running task works for, where one was begun: what it calls becomes a child of it."""


def parse(value: bytes | None, state: bytes = b"") -> Place | None:
    """The caller's span from its `traceparent` and `tracestate`; None for what is none."""
    match = None if value is None else _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    trace_id, span_id, flags = match.groups()
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return Place(trace_id.decode(), span_id.decode(), int(flags, 16), state.decode("latin-1"))


def render(trace_id: str, span_id: str, flags: int) -> bytes:
    """The value of `traceparent`."""
    return b"00-%b-%b-%02x" % (trace_id.encode(), span_id.encode(), flags)


def child_id(span_id: str, number: int) -> str:
    """The id of the `number`-th span below `span_id`, without randomness and without keeping it anywhere: who
    sends it and who reports it later come to the same one. Only the last byte differs, so there are 255."""
    return f"{span_id[:14]}{(int(span_id[14:], 16) + number % 255 + 1) & 255:02x}"
