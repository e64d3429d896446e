"""How a broken stream goes on at another instance: what the gateway and inference tell each other.

    gateway ──x-moonpool-tokens: 1────► instance A    each event of A's stream ends with a line of tokens:
            ◄── "data: {…}\\n:k=1348\\n\\n" ──               an SSE comment, nothing to anybody, and cut off
                                                      by the gateway without reading the JSON
    gateway ──x-moonpool-continue: 1──► instance B    with `"moonpool": {…}` (Begun) in the body

The edge takes both headers from clients; without the header the body's field means nothing.
"""

from collections.abc import Sequence

from msgspec import Struct

TOKENS = b"x-moonpool-tokens"
CONTINUE = b"x-moonpool-continue"
ON = b"1"
FIELD = "moonpool"
"""The request's field that holds a Begun."""
MARK = b"\n:k="
"""Begins a line of tokens. No line of JSON has a line break in it."""
GAP = b"~"
"""Before the number of tokens whose ids are not known."""


class Untold(Struct, frozen=True, gc=False):
    """Text that came from `count` tokens of which the ids are not known: llama.cpp tells only the last of the
    tokens that make up one character, or that it held back because a stop sequence might have begun."""

    text: str
    count: int


class Begun(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer that broke off: its tokens so far, in order, and what its chunks repeat.

    Its first chunks were delivered: the continuation has no role and no other id.
    """

    answer: list[int | Untold]
    id: str = ""
    created: int = 0
    fingerprint: str = ""
    """The revision that the tokens are of; another one refuses."""


class Continuing(Struct, frozen=True):
    """The one field of a request that is read beside the request itself."""

    moonpool: Begun


def traced(event: bytes, tokens: Sequence[int], count: int) -> bytes:
    """`event` with its line: its text came from `tokens`, or from `count` tokens that are not known."""
    if not count:
        return event
    known = b".".join(b"%d" % token for token in tokens) if len(tokens) == count else GAP + b"%d" % count
    return event[:-2] + MARK + known + b"\n\n"
