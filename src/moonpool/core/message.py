"""One request and one response type for the edge, every filter and every client of the house.

Request headers are a dict (lower-case names; repeated fields were joined with ", " as RFC 9110 §5.3
allows, and the edge refuses the fields that must not repeat). Response headers are a list, since
`set-cookie` may not be joined.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from moonpool.core.body import Outcome, Stream

Body = bytes | Stream
ResponseHeaders = list[tuple[bytes, bytes]]


class Request(msgspec.Struct):
    """`path` is without the query; both are as received, percent-encoding included.

    `peer` is the client's address without its port ("" on a Unix socket).
    """

    method: str
    path: str
    query: str = ""
    headers: dict[bytes, bytes] = {}
    body: Body = b""
    peer: str = ""
    matched: Any = None
    """What the application found when it was asked for the body's policy: a route is looked up once."""

    def header(self, name: bytes) -> str | None:
        """The field's value as text (latin-1, as RFC 9110 §5.5), or None."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


class Response(msgspec.Struct):
    """A `bytes` body is complete; a Stream's end is told by `Stream.on_settled`."""

    status: int
    headers: ResponseHeaders = []
    body: Body = b""

    def header(self, name: bytes) -> bytes | None:
        """The first field of that (lower-case) name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def when_settled(self, callback: Callable[[Outcome, Exception | None], None]) -> None:
        """Call back when the body is over: at once for bytes."""
        if isinstance(self.body, Stream):
            self.body.on_settled(callback)
        else:
            callback(Outcome.COMPLETED, None)
