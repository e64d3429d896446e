"""One client connection: turns in order, one at a time, with back-pressure and an end for everything.

    bytes ─► RequestParser ─Turn─► queue ─► application (a task) ─Response─► transport
                                                         Stream ─► Relay ──┘

Times are judged in `sweep`, which the server calls about once a second: no timer a request.
"""

import asyncio
import logging
from typing import cast

from moonpool.core.body import Outcome, Stream
from moonpool.core.errors import ClientGone, InternalError, MoonpoolError, RequestError, RequestTimeout
from moonpool.core.message import Response
from moonpool.http.framing import bodiless
from moonpool.http.host import Host
from moonpool.http.limits import Limits
from moonpool.http.parsing import RequestParser, Turn
from moonpool.http.patience import BodyRate, ReaderRate
from moonpool.http.reset import reset
from moonpool.http.writing import CONTINUE, Relay, declared_length, render_stream_head, render_whole

_log = logging.getLogger("moonpool.http")


class Connection(asyncio.Protocol):
    """See the module. It is the producer of streamed request bodies and the output of relays."""

    __slots__ = (
        "_active",
        "_body_rate",
        "_continue_due",
        "_deaf",
        "_head_since",
        "_host",
        "_linger_until",
        "_loop",
        "_parser",
        "_queue",
        "_reader_rate",
        "_reading",
        "_refusal",
        "_relay",
        "_task",
        "_transport",
        "_want_body",
        "_write_paused",
        "idle_since",
        "peer",
    )

    def __init__(self, host: "Host[Connection]", loop: asyncio.AbstractEventLoop) -> None:
        self._host = host
        self._loop = loop
        self.peer = ""
        self._queue: list[Turn] | None = None
        self._active: Turn | None = None
        self._task: asyncio.Task[None] | None = None
        self._relay: Relay | None = None
        self._refusal: MoonpoolError | None = None
        self._deaf = False
        """Nothing more is taken from this client: what still comes is dropped."""
        self._reading = True
        self._want_body = True
        self._continue_due = False
        self._write_paused = False
        self._head_since = 0.0
        self._body_rate: BodyRate | None = None
        self._reader_rate: ReaderRate | None = None
        self._linger_until = 0.0
        self.idle_since = 0.0

    # ── asyncio.Protocol ───────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        host = self._host
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=host.limits.write_high_water)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self._parser = RequestParser(self, host.limits, host.body_policy, host.accepted_private)
        self._head_since = self.idle_since = host.clock.monotonic()
        host.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        parser = self._parser
        try:
            parser.feed(data)
        except MoonpoolError as error:
            if not self._deaf:
                self._refuse(error)
            return
        except Exception:  # noqa: BLE001 - one connection's boundary: a bug here must not reach the loop
            _log.exception("the edge failed while it parsed a request")
            self._refuse(InternalError("the request could not be read"))
            return
        if parser.clean:
            self._head_since = 0.0
        elif not self._head_since:
            self._head_since = self._host.clock.monotonic()

    def eof_received(self) -> None:
        """A client that sends no more is gone, as for nginx and HAProxy by default: the transport
        closes and `connection_lost` cancels what runs."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._deaf = True
        self._queue = None
        self._host.closed(self)
        if self._relay is not None:
            self._relay.stream.cancel()
        if self._task is not None:
            self._task.cancel()
        self._parser.fail(ClientGone("the client closed the connection"))
        self._end_turn()
        self._parser.close()

    def pause_writing(self) -> None:
        self._write_paused = True
        self._reader_rate = None
        if self._relay is not None:
            self._relay.stream.pause()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._relay is not None:
            self._relay.stream.resume()
        elif self._active is None and self._queue:
            self._begin_next()

    # ── parser's owner, and producer of a streamed request body ────────────────────────────────────

    def turn_ready(self, turn: Turn) -> None:
        if self._deaf:  # an answer given while this was read has ended the connection
            raise ClientGone("the connection is closed after the answer before")
        if not turn.receiving:
            self._continue_due = False  # the body came without being asked for
        if self._active is None and not self._write_paused:
            self._begin(turn)
            return
        self._queue = self._queue or []
        self._queue.append(turn)
        if len(self._queue) >= self._host.limits.pipelined:
            self._set_reading()

    def send_continue(self) -> None:
        if self._active is None:
            if not self._deaf:
                self.write(CONTINUE)
        else:
            self._continue_due = True

    def _continue_if_due(self) -> None:
        if self._continue_due and not self._queue:
            self._continue_due = False
            self.write(CONTINUE)

    def pause(self) -> None:
        self._want_body = False
        self._set_reading()

    def resume(self) -> None:
        self._want_body = True
        self._set_reading()

    def cancel(self) -> None:
        """The application wants no more of the body: what still comes is dropped, then it is closed."""
        if self._active is not None:
            self._active.keep_alive = False
        self._deaf = self._deaf or self._parser.receiving
        self.resume()

    def _set_reading(self) -> None:
        want = self._deaf or (self._want_body and len(self._queue or ()) < self._host.limits.pipelined)
        if want is self._reading or self._transport.is_closing():
            return
        self._reading = want
        if want:
            self._body_rate = None
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # ── a turn ─────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, turn: Turn) -> None:
        self._active = turn
        self._host.active += 1
        self._task = self._loop.create_task(self._answer(turn))

    def _begin_next(self) -> None:
        assert self._queue
        turn = self._queue.pop(0)
        self._begin(turn)
        self._set_reading()
        if turn.receiving:
            self._continue_if_due()

    async def _answer(self, turn: Turn) -> None:
        host = self._host
        try:
            response = await host.application(turn.request)
        except MoonpoolError as error:
            response = host.render_error(error)
        except asyncio.CancelledError:
            if turn is self._active and not self._transport.is_closing():
                self._task = None
                self._transport.abort()  # cancelled from inside: there is no answer to give
            raise
        except Exception:  # noqa: BLE001 - the task's boundary: the client gets an answer whatever happens
            _log.exception("the application failed on %s %s", turn.request.method, turn.request.path)
            response = host.render_error(InternalError("an internal error occurred"))
        self._task = None
        if turn is not self._active or self._transport.is_closing():
            if isinstance(response.body, Stream):
                response.body.cancel()
            return
        try:
            self._respond(turn, response)
        except MoonpoolError as error:
            if isinstance(response.body, Stream):
                response.body.cancel()
            _log.error("an answer could not be written: %s", error.message)
            self._respond(turn, host.render_error(error))
        except Exception:  # noqa: BLE001 - the task's boundary: a client must not wait for a dead task
            _log.exception("an answer could not be written")
            if isinstance(response.body, Stream):
                response.body.cancel()
            self.cut()

    def _respond(self, turn: Turn, response: Response) -> None:
        host, head_only = self._host, turn.request.method == "HEAD"
        if turn.receiving or host.draining or (self._deaf and self._refusal is None):
            turn.keep_alive = False
        body = response.body
        if isinstance(body, Stream):
            if head_only or bodiless(response.status):
                body.cancel()
            else:
                self._relay_stream(turn, response, body)
                return
            body = b""
        close = not turn.keep_alive
        data = render_whole(response, body, host.date.line(), head_only=head_only, close=close)
        self._transport.write(data)
        self.finished()

    def _relay_stream(self, turn: Turn, response: Response, stream: Stream) -> None:
        length, delimited, close = declared_length(response), not turn.http10, not turn.keep_alive
        date = self._host.date.line()
        self._transport.write(render_stream_head(response, date, length, delimited=delimited, close=close))
        events = (response.header(b"content-type") or b"").startswith(b"text/event-stream")
        render = self._host.render_stream_error if events else None
        self._relay = Relay(stream, self, self._transport, length, delimited=delimited, render=render)
        stream.connect(self._relay)
        if stream.outcome is Outcome.CANCELLED and self._active is turn:
            self.cut()  # somebody below gave it up before it came here
        elif self._active is turn:
            if self._write_paused:
                stream.pause()
            if turn.keep_alive:  # otherwise llhttp knows that nothing may follow
                self._parser.rest()
            del turn.request

    # ── a relay's output ───────────────────────────────────────────────────────────────────────────

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():  # uvloop raises between a reset and `connection_lost`
            self._transport.write(data)

    def finished(self) -> None:
        turn = self._active
        if turn is None:
            return
        receiving = turn.receiving
        self._end_turn()
        if receiving:
            self._parser.fail(ClientGone("the answer was complete before the body"))
        if not turn.keep_alive or self._host.draining:
            self._leave(linger=receiving or self._deaf)
        elif self._queue:
            if not self._write_paused:  # answers that nobody takes must not pile up: see resume_writing
                self._begin_next()
        elif self._refusal is not None:
            self._answer_refusal()
        else:
            self._continue_if_due()
            self.idle_since = self._host.clock.monotonic()

    def cut(self) -> None:
        turn = self._active
        self._end_turn()
        self._deaf = True
        if turn is not None and turn.http10:
            reset(self._transport)  # its body may end with the connection
        else:
            self._transport.close()

    def _end_turn(self) -> None:
        if self._active is not None:
            body = self._active.body
            self._active = None
            self._task = None
            self._relay = None
            self._host.active -= 1
            if body is not None:
                body.cancel()

    # ── refusal and farewell ───────────────────────────────────────────────────────────────────────

    def _refuse(self, error: MoonpoolError) -> None:
        """Answer `error` when it is its turn, and take nothing more from this client."""
        self._deaf = True
        self._refusal = error
        self._parser.fail(error if isinstance(error, RequestError) else ClientGone("unreadable"))
        active = self._active
        if active is None:
            if not self._queue:
                self._answer_refusal()
        elif active.receiving:
            active.keep_alive = False  # the application sees its body fail and answers that

    def _answer_refusal(self) -> None:
        assert self._refusal is not None
        response = self._host.render_error(self._refusal)
        body = response.body if isinstance(response.body, bytes) else b""
        self.write(render_whole(response, body, self._host.date.line(), head_only=False, close=True))
        self._leave(linger=True)

    def _leave(self, *, linger: bool) -> None:
        """Close when all is written; with `linger` half-close, and drop what still comes for a while."""
        self._deaf = True
        self._queue = None
        if self._transport.is_closing():
            return
        if linger and self._transport.can_write_eof():
            self._set_reading()
            self._linger_until = self._host.clock.monotonic() + self._host.limits.linger
            self._transport.write_eof()
        else:
            self._transport.close()

    # ── called by the server ───────────────────────────────────────────────────────────────────────

    @property
    def busy(self) -> bool:
        return self._active is not None

    def drain(self) -> None:
        """Close now when idle; else after the running and queued turns' answers."""
        if self._active is None and not self._linger_until and self._parser.clean:
            # Half-closed: what crosses it is read and dropped, and its sender sees an end without an answer
            # (RFC 9112 §9.6), which clients repeat on another connection, not a reset.
            self._leave(linger=True)

    def abort(self) -> None:
        if self._relay is not None:
            self._relay.stream.cancel()
        self._transport.abort()

    def sweep(self, now: float) -> None:
        """Judge the times."""
        if self._write_paused or self._linger_until or self._transport.is_closing():
            rate = self._reader_rate = self._reader_rate or ReaderRate(self._host.limits)
            if rate.too_slow(now, self._transport.get_write_buffer_size()):
                self.abort()
                return
        if self._linger_until:
            if now >= self._linger_until:
                self._transport.close()
        elif self._deaf or self._transport.is_closing():
            return
        elif self._parser.receiving:
            body = BodyRate(self._host.limits) if self._body_rate is None else self._body_rate
            self._body_rate = body if self._reading else None
            if self._reading and body.too_slow(now, self._parser.body_bytes):
                self._refuse(RequestTimeout("the request body arrives too slowly"))
        else:
            self._body_rate = None  # or the next body on this connection would answer for this one's time
            if self._active is None and not self._write_paused:
                self._judge_silence(now, self._host.limits)

    def _judge_silence(self, now: float, limits: Limits) -> None:
        if self._parser.clean:
            # A fresh connection has its head's time from being accepted.
            since, allowed = (
                (self._head_since, limits.header_timeout)
                if self._head_since
                else (self.idle_since, limits.idle_timeout)
            )
            if now - since > allowed:
                self._leave(linger=False)
        elif now - self._head_since > limits.header_timeout:
            self._refuse(RequestTimeout("the request headers did not arrive in time"))
