"""An answer as bytes: head, framing, and the sink that relays a stream chunk by chunk."""

from collections.abc import Callable
from email.utils import formatdate
from typing import Protocol

from moonpool.core.body import Stream
from moonpool.core.clock import Clock
from moonpool.core.errors import InternalError
from moonpool.core.message import Response, ResponseHeaders
from moonpool.http.framing import bodiless, status_line

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_SIZED = 1024
_SIZES = tuple(b"%x\r\n" % size for size in range(_SIZED))
"""The first lines of chunks of usual size: to format one costs more than all else that frames it."""
_OURS = frozenset(
    {b"connection", b"content-length", b"date", b"keep-alive", b"server", b"transfer-encoding", b"upgrade"}
)
"""Fields the edge writes itself or not at all, whatever the application put there."""


class DateField:
    """`date: …` as a field line, made once a second (RFC 9110 §6.6.1)."""

    __slots__ = ("_clock", "_line", "_second")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = -1
        self._line = b""

    def line(self) -> bytes:
        second = int(self._clock.time())
        if second != self._second:
            self._second = second
            self._line = b"date: %b\r\n" % formatdate(second, usegmt=True).encode()
        return self._line


def field_lines(headers: ResponseHeaders) -> bytes:
    """The application's fields, without those that are ours to write.

    Raises InternalError when a name or value would break the framing (CR, LF: response splitting).
    """
    lines = [name + b": " + value + b"\r\n" for name, value in headers if name not in _OURS]
    block = b"".join(lines)
    if block.count(b"\n") != len(lines) or block.count(b"\r") != len(lines):
        raise InternalError("a response header contains a line break")
    return block


def declared_length(response: Response) -> int | None:
    """The Content-Length that a streamed answer brings along, if it is one."""
    value = response.header(b"content-length")
    return int(value) if value is not None and value.isdigit() else None


def render_head(response: Response, date: bytes, framing: bytes, *, close: bool) -> bytes:
    """Status line to blank line. `framing` is the field line that delimits the body, or nothing."""
    return b"".join(
        (
            status_line(response.status),
            field_lines(response.headers),
            date,
            framing,
            b"connection: close\r\n\r\n" if close else b"\r\n",
        )
    )


def render_whole(response: Response, body: bytes, date: bytes, *, head_only: bool, close: bool) -> bytes:
    """An answer in one piece. `head_only` (HEAD) keeps the length that the body would have."""
    length: int | None = len(body)
    if bodiless(response.status):
        body, length = b"", None
    elif head_only and not body:
        length = declared_length(response)
    framing = b"" if length is None else b"content-length: %d\r\n" % length
    head = render_head(response, date, framing, close=close)
    return head if head_only else head + body


def render_stream_head(
    response: Response, date: bytes, length: int | None, *, delimited: bool, close: bool
) -> bytes:
    """Before what a `Relay` of this `length`, `delimited` or not, writes."""
    framing = b"transfer-encoding: chunked\r\n" if delimited else b""
    if length is not None:
        framing = b"content-length: %d\r\n" % length
    return render_head(response, date, framing, close=close)


class Transport(Protocol):
    """What a relay needs of what it writes to."""

    def is_closing(self) -> bool: ...

    def write(self, data: bytes) -> None: ...


class Output(Protocol):
    """What a relay needs of the connection whose answer it is."""

    def finished(self) -> None:
        """The answer is complete."""

    def cut(self) -> None:
        """The answer broke off, and the client must be able to tell."""


class Relay:
    """The sink of a streamed answer: each chunk goes out in the call that brought it.

    `length` None: chunked, or (`delimited` False, HTTP/1.0) until close. A stream of events that fails ends
    with an event that says so, which `render` makes; any other is cut: there is never a false end.
    """

    __slots__ = ("_chunked", "_left", "_output", "_render", "_tail", "_transport", "stream")

    def __init__(
        self,
        stream: Stream,
        output: Output,
        transport: Transport,
        length: int | None,
        *,
        delimited: bool,
        render: Callable[[Exception], bytes] | None,
    ) -> None:
        self.stream = stream
        self._output = output
        self._transport = transport
        self._chunked = length is None and delimited
        self._left = length
        self._render = render
        self._tail = b""
        """The end of what was written last; that of a plain event, which is a whole one, is not looked at."""

    def write(self, data: bytes) -> None:
        if self._chunked:
            size = len(data)
            transport = self._transport
            if not size or transport.is_closing():  # an empty chunk would be the end; see `_put`
                return
            if data is not self.stream.plain:
                self._tail = data[-3:]
            if size < _SIZED:
                transport.write(_SIZES[size] + data + b"\r\n")
            else:
                transport.write(b"%x\r\n%b\r\n" % (size, data))
        else:
            self._write_plainly(data)

    def _write_plainly(self, data: bytes) -> None:
        if self._left is None:
            self._tail = data[-3:] or self._tail
            self._put(data)
        elif len(data) <= self._left:
            self._left -= len(data)
            self._put(data)
        else:
            self.stream.cancel()
            self._output.cut()

    def _put(self, data: bytes) -> None:
        if not self._transport.is_closing():  # uvloop raises between a reset and `connection_lost`
            self._transport.write(data)

    def close(self) -> None:
        if self._left:
            self._output.cut()
            return
        if self._chunked:
            self._put(_LAST_CHUNK)
        self._output.finished()

    def abort(self, error: Exception) -> None:
        if self._render is None or self._left is not None:
            self._output.cut()
            return
        if self._tail and not self._tail.endswith((b"\n\n", b"\r\r", b"\n\r\n")):
            self.write(b"\n\n")  # so that the error is an event of its own
        self.write(self._render(error))
        self.close()
