"""One connection to an endpoint: an exchange at a time, push both ways.

    bytes ─► ResponseParser ─► future (a Response with bytes, or with this connection's Stream)
                            └► Stream.feed … finish | fail

Times are judged in `sweep`, which the client calls while there is something to watch.
"""

import asyncio
from typing import Protocol, cast

from moonpool.core.body import Stream
from moonpool.core.clock import Clock
from moonpool.core.errors import (
    ConnectionReset,
    FirstByteTimeout,
    MoonpoolError,
    StreamStalled,
    StreamTruncated,
    UpstreamError,
    UpstreamMalformed,
)
from moonpool.core.message import Request, Response
from moonpool.http.framing import bodiless
from moonpool.http.receiving import REFUSALS, ResponseParser
from moonpool.http.sending import RequestSink, streamed_length

COLLECT_LIMIT = 1024 * 1024
"""Bodies of a declared length up to this are handed over whole."""

_NEVER = float("inf")


class Owner(Protocol):
    """The pool, as its connections see it."""

    clock: Clock

    def started(self, connection: "UpstreamConnection") -> None: ...

    def released(self, connection: "UpstreamConnection") -> None:
        """The exchange ended cleanly: the connection can serve another."""

    def lost(self, connection: "UpstreamConnection") -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """See the module. It is the producer of the response's stream, and where a request's is sent to."""

    __slots__ = (
        "_chunks",
        "_deadline",
        "_first_byte_timeout",
        "_fresh",
        "_heard",
        "_idle_timeout",
        "_loop",
        "_owner",
        "_parser",
        "_paused",
        "_sending",
        "_stream",
        "_transport",
        "_waiter",
        "_write_paused",
        "closed",
        "idle_since",
        "served",
    )

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._parser = ResponseParser()
        self._chunks = self._parser.chunks
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Response] | None = None
        self._stream: Stream | None = None
        self._sending: Stream | None = None
        self._paused = False
        self._write_paused = False
        self._heard = False
        self._fresh = False
        self._deadline = _NEVER
        self._first_byte_timeout = 0.0
        self._idle_timeout = 0.0
        self.closed = False
        self.idle_since = 0.0
        self.served = 0
        """Exchanges completed: whether it is a fresh connection."""

    # ── asyncio.Protocol ───────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        stream = self._stream
        if stream is None:
            self._begin_answer(data)
            return
        self._fresh = True
        parser = self._parser
        try:
            parser.pass_body(data)
        except REFUSALS as error:
            failure = parser.failure(error)
            if failure is not None:
                self._deliver_pending()
                self._fail(failure)
                return
        chunks = self._chunks
        if len(chunks) == 1:
            stream.feed(chunks.pop())
        elif chunks:
            self._deliver_pending()
        if parser.complete and stream is self._stream:
            self._finish()
            stream.finish()

    def _begin_answer(self, data: bytes) -> None:
        if self._waiter is None:
            self.abort()  # bytes nobody asked for
            return
        self._heard = self._fresh = True
        parser = self._parser
        try:
            parser.feed(data)
        except UpstreamMalformed as error:
            self._fail(error)
            return
        if not parser.head_complete:
            return
        if parser.complete:
            self._complete_whole(parser)
            return
        if parser.length is not None and parser.length <= COLLECT_LIMIT and not self._is_events(parser):
            return
        if self._open_stream(parser) is not None:
            self._deliver_pending()

    @staticmethod
    def _is_events(parser: ResponseParser) -> bool:
        for name, value in parser.headers or ():
            if name == b"content-type":
                return value.lower().startswith(b"text/event-stream")
        return False

    def _open_stream(self, parser: ResponseParser) -> Stream | None:
        waiter, self._waiter = self._waiter, None
        assert waiter is not None
        if waiter.done():  # its task was cancelled in this very turn of the loop
            self.abort()
            return None
        self._stream = stream = Stream(self)
        waiter.set_result(Response(parser.status, parser.hand_over(), stream))
        return stream

    def _deliver_pending(self) -> None:
        chunks = self._chunks
        if chunks and self._stream is not None:
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            self._stream.feed(data)

    def _complete_whole(self, parser: ResponseParser) -> None:
        waiter = self._waiter
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if self._is_events(parser) and not bodiless(parser.status) and body:
            stream = self._open_stream(parser)
            if stream is not None:
                self._deliver_pending()
                self._finish()
                stream.finish()
            return
        response = Response(parser.status, parser.hand_over(), body)
        self._finish()
        if waiter is not None and not waiter.done():
            waiter.set_result(response)

    def eof_received(self) -> None:
        """The transport closes; `connection_lost` judges whether that was an end."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        parser = self._parser
        if self._stream is not None and parser.until_close and exc is None:
            stream, self._stream = self._stream, None
            self._owner.lost(self)
            stream.finish()
            parser.close()
            return
        if self._waiter is not None or self._stream is not None:
            if parser.head_complete:
                self._fail(StreamTruncated("the endpoint closed the connection before the answer's end"))
            else:
                self._fail(ConnectionReset("the endpoint closed the connection before it answered"))
        self._owner.lost(self)
        parser.close()

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._sending is not None:
            if not self._parser.head_complete:
                self._deadline = self._owner.clock.monotonic() + self._first_byte_timeout
            self._sending.pause()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._sending is not None:
            if not self._parser.head_complete:
                self._deadline = _NEVER
            self._sending.resume()

    # ── an exchange ────────────────────────────────────────────────────────────────────────────────

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self.closed and not self._transport.is_closing()

    @property
    def made(self) -> bool:
        """Whether the transport exists, so that `connection_lost` will come."""
        return self._transport is not None

    @property
    def heard(self) -> bool:
        """Whether a byte of the current answer has come."""
        return self._heard

    def begin(
        self, request: Request, data: bytes, first_byte_timeout: float, idle_timeout: float
    ) -> asyncio.Future[Response]:
        """Send `data` (`render_request`), then the streamed body if there is one."""
        assert self._transport is not None
        self._waiter = waiter = self._loop.create_future()
        self._parser.begin(head_only=request.method == "HEAD")
        self._heard = self._fresh = False
        self._first_byte_timeout = first_byte_timeout
        self._idle_timeout = idle_timeout
        self._deadline = self._owner.clock.monotonic() + first_byte_timeout
        self._owner.started(self)
        self._transport.write(data)
        body = request.body
        if isinstance(body, Stream):
            self._sending = body
            self._deadline = _NEVER
            body.connect(RequestSink(self, body, streamed_length(request)))
            if self._write_paused and self._sending is not None:
                self.pause_writing()
        return waiter

    def drop(self, waiter: "asyncio.Future[Response]") -> None:
        """The caller of `begin` left: close, unless the exchange is over (then only its stream ends)."""
        if self._waiter is waiter:
            self.abort()
        elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            body = waiter.result().body
            if isinstance(body, Stream):
                body.cancel()

    def send_piece(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def sent(self) -> None:
        self._sending = None
        if self._waiter is not None:
            self._deadline = self._owner.clock.monotonic() + self._first_byte_timeout

    def sending_failed(self, error: Exception) -> None:
        self._sending = None
        self._fail(error)

    def _finish(self) -> None:
        """The answer is complete: give the connection back, or close it."""
        parser = self._parser
        reusable = parser.keep_alive and not parser.surplus and self._sending is None
        self._waiter = None
        self._stream = None
        self._chunks.clear()
        self._deadline = _NEVER
        self.served += 1
        if not reusable or not self.usable:
            self.abort()
            return
        if self._paused:
            self.resume()
        self._owner.released(self)

    def _fail(self, error: Exception) -> None:
        waiter, self._waiter = self._waiter, None
        stream, self._stream = self._stream, None
        self.abort()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        if stream is not None:
            stream.fail(error if isinstance(error, MoonpoolError) else StreamTruncated(str(error)))

    # ── producer of the response's stream ──────────────────────────────────────────────────────────

    def pause(self) -> None:
        if not self._paused and self.usable:
            assert self._transport is not None
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._fresh = True
            if self.usable:
                assert self._transport is not None
                self._transport.resume_reading()

    def cancel(self) -> None:
        self.abort()

    def abort(self) -> None:
        """Close at once, so that the endpoint notices; an exchange under way gets no answer."""
        self._stream = None
        self._waiter = None
        self._chunks.clear()
        sending, self._sending = self._sending, None
        if self._transport is not None and not self.closed:
            self._transport.abort()
        if sending is not None:
            sending.cancel()

    # ── called by the client ───────────────────────────────────────────────────────────────────────

    def shut(self) -> None:
        """The client closes: tell whoever waits."""
        self._fail(ConnectionReset("the client was closed"))

    def sweep(self, now: float) -> None:
        """Judge the times. Silence that is our own doing (paused) counts for nothing."""
        if self._paused:
            self._fresh = True
            return
        if self._fresh:
            self._fresh = False
            if self._parser.head_complete:
                self._deadline = now + self._idle_timeout
            return
        if now >= self._deadline:
            error: UpstreamError
            if self._parser.head_complete:
                error = StreamStalled(f"the endpoint sent nothing for {round(self._idle_timeout, 2):g} s")
            else:
                seconds = round(self._first_byte_timeout, 2)
                error = FirstByteTimeout(f"the endpoint did not answer within {seconds:g} s")
            self._fail(error)
