"""A request as bytes, and the sink that sends a streamed request body."""

from typing import Protocol

from moonpool.core.body import Stream
from moonpool.core.errors import InternalError
from moonpool.core.message import Request
from moonpool.http.address import Address
from moonpool.http.framing import HOP_BY_HOP

_OURS = HOP_BY_HOP | {b"content-length", b"expect", b"host"}
"""Fields the client writes itself or not at all: they speak of one connection, and this is another."""

_BODY_EXPECTED = frozenset({"POST", "PUT", "PATCH"})


def streamed_length(request: Request) -> int | None:
    """The length a streamed body was announced with."""
    value = request.headers.get(b"content-length")
    return int(value) if value is not None and value.isdigit() else None


def render_request(address: Address, request: Request) -> bytes:
    """The head, and the body when it is bytes. Raises InternalError when a field breaks the framing."""
    body = request.body
    if isinstance(body, Stream):
        length = streamed_length(request)
        framing = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
    elif body or request.method in _BODY_EXPECTED:
        framing = b"content-length: %d" % len(body)
    else:
        framing = b""
    target = f"{address.base}{request.path}"
    if request.query:
        target = f"{target}?{request.query}"
    try:
        line = f"{request.method} {target} HTTP/1.1".encode("ascii")
    except UnicodeEncodeError:
        raise InternalError("a request target must be percent-encoded") from None
    lines = [line, b"host: " + address.host_field]
    lines += [name + b": " + value for name, value in request.headers.items() if name not in _OURS]
    if framing:
        lines.append(framing)
    block = b"\r\n".join(lines)
    breaks = len(lines) - 1
    if block.count(b"\n") != breaks or block.count(b"\r") != breaks or lines[0].count(b" ") != 2:
        raise InternalError("a request line or header contains a line break or blank")
    if isinstance(body, Stream) or not body:
        return block + b"\r\n\r\n"
    return block + b"\r\n\r\n" + body


class Upload(Protocol):
    """What the sink needs of the connection it sends on."""

    def send_piece(self, data: bytes) -> None: ...

    def sent(self) -> None:
        """The request is complete on the wire."""

    def sending_failed(self, error: Exception) -> None: ...


class RequestSink:
    """Sends a streamed body, chunked or, when its length was announced, as it is."""

    __slots__ = ("_left", "_stream", "_upload")

    def __init__(self, upload: Upload, stream: Stream, length: int | None) -> None:
        self._upload = upload
        self._stream = stream
        self._left = length

    def write(self, data: bytes) -> None:
        if self._left is None:
            if data:
                self._upload.send_piece(b"%x\r\n%b\r\n" % (len(data), data))
        elif len(data) <= self._left:
            self._left -= len(data)
            self._upload.send_piece(data)
        else:
            self._stream.cancel()
            self._upload.sending_failed(InternalError("the body is longer than its Content-Length"))

    def close(self) -> None:
        if self._left:
            self._upload.sending_failed(InternalError("the body is shorter than its Content-Length"))
            return
        if self._left is None:
            self._upload.send_piece(b"0\r\n\r\n")
        self._upload.sent()

    def abort(self, error: Exception) -> None:
        self._upload.sending_failed(error)
