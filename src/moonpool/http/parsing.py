"""From llhttp's callbacks to requests: one parser a connection, strict and bounded. No I/O.

    bytes ─► HttpRequestParser ─callbacks─► RequestParser ─turn_ready─► TurnOwner (the connection)

A `Turn` is handed over when its body is there or, where the policy says streamed, with its head.
Errors are raised inside the callbacks, which is how llhttp is stopped; `feed` raises them again.
"""

from collections.abc import Callable
from typing import Protocol

import httptools

from moonpool.core.body import Stream
from moonpool.core.errors import BadRequest, HeadersTooLarge, MoonpoolError, PayloadTooLarge, RequestError
from moonpool.core.message import Request
from moonpool.http.framing import HOP_BY_HOP, METHODS, SINGLETONS
from moonpool.http.head import (
    CONTEXT_PREFIX,
    TargetTooLong,
    check_host,
    check_names,
    drop_hop_by_hop,
    origin_target,
    without_upgrade,
)
from moonpool.http.limits import BodyPolicy, Limits

_AROUND = len("  HTTP/1.1\r\n")
"""What a request line has besides method and target."""
_MALFORMED = "the request is not well-formed HTTP/1.1"


class Turn:
    """A request and how its answer must be framed."""

    __slots__ = ("body", "http10", "keep_alive", "receiving", "request")

    def __init__(self, request: Request, keep_alive: bool, http10: bool) -> None:
        self.request = request
        """Gone once its answer is being relayed: that takes minutes, and needs none of it."""
        self.body: Stream | None = None
        """The request's, when it is streamed."""
        self.keep_alive = keep_alive
        self.http10 = http10
        self.receiving = False
        """Its streamed body is not complete yet."""


class TurnOwner(Protocol):
    """What the parser tells and asks the connection."""

    peer: str

    def turn_ready(self, turn: Turn) -> None: ...

    def send_continue(self) -> None:
        """The client waits for `100 Continue` before it sends the body."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def cancel(self) -> None:
        """Nobody wants the rest of the streamed body."""


class _UpgradeOffered(Exception):
    """Raised to stop llhttp before it hands the connection over to another protocol."""


class RequestParser:
    """See the module. `receiving` and `body_bytes` are what the body's rate is judged by."""

    __slots__ = (
        "_accepted",
        "_body",
        "_body_limit",
        "_fed",
        "_feed",
        "_first",
        "_headers",
        "_host",
        "_limits",
        "_owner",
        "_parser",
        "_policy",
        "_repeats",
        "_stream",
        "_turn",
        "_url",
        "body_bytes",
        "clean",
        "receiving",
    )

    def __init__(
        self,
        owner: TurnOwner,
        limits: Limits,
        policy: Callable[[Request], BodyPolicy] | None,
        accepted: frozenset[bytes],
    ) -> None:
        self._owner = owner
        self._limits = limits
        self._policy = policy
        self._accepted = accepted
        self._host: bytes | None = None
        self._headers: dict[bytes, bytes] = {}
        self._url = b""
        self._repeats = 0
        self._fed = 0
        self._first: bytes | None = None
        self._turn: Turn | None = None
        self._stream: Stream | None = None
        self._body: bytes | bytearray = b""
        self._body_limit = 0
        self.body_bytes = 0
        self.receiving = False
        self.clean = True
        """Nothing of a next request has come since the last one was complete."""
        self._parser: httptools.HttpRequestParser | None = None

    def _restart(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._feed = self._parser.feed_data

    def rest(self) -> None:
        """Between two requests, and the next one will not be soon: llhttp's state, a kilobyte with its
        callbacks, can be made again."""
        if self.clean and self._parser is not None:
            self._parser = None
            del self._feed

    def feed(self, data: bytes) -> None:
        """Take bytes as they came. Raises RequestError; the parser is of no use afterwards."""
        if self._parser is None:
            self._restart()
        self._first = data if self.clean else None
        self.clean = False
        self._fed += len(data)
        failure: httptools.HttpParserError | None = None
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            failure = error
        if failure is not None:
            self._explain(failure)  # not while it is handled: that would change the next one's context
        elif not self.clean:
            self._check_growth()

    def fail(self, error: Exception) -> None:
        """The connection broke, or what came is no HTTP: a body under way will not be completed."""
        stream, self._stream = self._stream, None
        self.receiving = False
        if stream is not None:
            stream.fail(error)

    def close(self) -> None:
        """Nothing will be fed any more. llhttp, this and its owner know each other: opens the circle, so that
        they are freed at once."""
        if self._parser is not None:
            del self._feed
        del self._parser, self._owner

    def _explain(self, error: httptools.HttpParserError) -> None:
        """Raise what `error` means, unless it means an offer to upgrade that can be ignored."""
        cause = error.__context__
        if isinstance(cause, _UpgradeOffered):
            again = without_upgrade(self._first) if self._first is not None else None
            if again is None:
                raise BadRequest("protocol upgrades are not offered here", code="upgrade_refused") from None
            self._begin_message()
            self._restart()
            self.feed(again)
            return
        if isinstance(cause, MoonpoolError):
            raise cause from None
        if isinstance(error, httptools.HttpParserCallbackError) and cause is not None:
            raise cause from None  # a bug: to be seen, not to be taken for the client's fault
        raise BadRequest(_MALFORMED, code="malformed_request", hint=str(error) or None) from None

    def _check_growth(self) -> None:
        """Bound what llhttp takes without telling: endless heads, trailers and chunk extensions."""
        limit = self._limits.header_bytes
        if self._turn is None:
            if self._fed > limit + self._limits.request_line:
                raise HeadersTooLarge("the request headers are too large")
        elif self._fed > limit + 8 * self.body_bytes or len(self._headers) > self._limits.header_count:
            # A chunk of one byte takes six on the wire; more overhead than that is no body.
            raise BadRequest("the body's framing is larger than the body", code="malformed_request")

    def _begin_message(self) -> None:
        self._headers = {}
        self._url = b""
        self._repeats = 0
        self._fed = 0
        self._turn = None
        self._stream = None
        self._body = b""
        self.body_bytes = 0
        self.receiving = False
        self._first = None
        self.clean = True

    # ── llhttp's callbacks ─────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        self.clean = False  # it may begin in the read that ended the one before

    def on_url(self, url: bytes) -> None:
        self._url = url = self._url + url if self._url else url
        if len(url) > self._limits.request_line:
            raise TargetTooLong("the request line is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        headers = self._headers
        if name in headers:
            self._repeat(name, value)
        else:
            headers[name] = value.rstrip()

    def _repeat(self, name: bytes, value: bytes) -> None:
        if name in SINGLETONS:
            raise BadRequest(f"the header {name.decode('latin-1')} may not be repeated", code="bad_header")
        self._repeats += 1
        if self._repeats > self._limits.header_count:
            raise HeadersTooLarge("too many request headers")
        # RFC 6265 §5.4: cookies are the one list that is not joined with a comma.
        self._headers[name] += (b"; " if name == b"cookie" else b", ") + value.rstrip()

    def on_headers_complete(self) -> None:
        headers, self._headers = self._headers, {}  # trailers go to the new one, and nowhere from there
        parser = self._parser
        assert parser is not None
        method = METHODS.get(parser.get_method())
        if method is None:
            raise BadRequest("this method is not supported", code="bad_method")
        if len(self._url) + len(method) + _AROUND > self._limits.request_line:
            raise TargetTooLong("the request line is too long")
        version = parser.get_http_version()
        http10 = version == "1.0"
        if not http10 and version != "1.1":
            raise BadRequest("only HTTP/1.1 and HTTP/1.0 are spoken here", code="bad_version")
        if b"upgrade" in headers and parser.should_upgrade():
            raise _UpgradeOffered
        self._check_size(headers)
        host = headers.get(b"host")
        if host != self._host or host is None:
            check_host(host, required=not http10)
            self._host = host
        names = b"".join(headers)
        if names.find(b"_") >= 0 or names.find(CONTEXT_PREFIX) >= 0:  # `in` takes three times as long
            check_names(headers, self._accepted)
        coding = headers.get(b"transfer-encoding")
        close = http10
        if headers.get(b"connection") == b"keep-alive":
            del headers[b"connection"]  # what most clients send, and what HTTP/1.1 is anyway
        if not HOP_BY_HOP.isdisjoint(headers):
            close = drop_hop_by_hop(headers) or close
        target = self._url.decode("ascii")
        if target[0] != "/":
            target = origin_target(target, host, method)
        path, _, query = target.partition("?")
        if "#" in target:
            raise BadRequest("the request target has a fragment", code="bad_target")
        request = Request(method, path, query, headers, b"", self._owner.peer)
        self._turn = Turn(request, not close, http10)
        if coding is not None or b"content-length" in headers:
            self._begin_body(self._turn, coding)

    def _check_size(self, headers: dict[bytes, bytes]) -> None:
        limits = self._limits
        if len(headers) + self._repeats > limits.header_count:
            raise HeadersTooLarge("too many request headers")
        if self._fed > limits.header_bytes:
            size = sum(len(name) + len(value) + 4 for name, value in headers.items())
            if size > limits.header_bytes:
                raise HeadersTooLarge("the request headers are too large")
        self._fed = 0

    def _begin_body(self, turn: Turn, coding: bytes | None) -> None:
        request = turn.request
        limit, streamed = (self._limits.body, False) if self._policy is None else self._policy(request)
        expect = request.headers.pop(b"expect", None)
        if coding is not None:
            if coding.lower() != b"chunked" or turn.http10:
                raise BadRequest("the only transfer coding taken is chunked", code="bad_transfer_encoding")
        else:
            length = int(request.headers[b"content-length"])
            if length > limit:
                raise PayloadTooLarge(f"the body may have at most {limit} bytes")
            if length == 0:
                return
        self._body_limit = limit
        self.receiving = True
        if expect is not None and not turn.http10 and expect.lower() == b"100-continue":
            self._owner.send_continue()
        if streamed:
            request.body = turn.body = self._stream = Stream(self._owner)
            turn.receiving = True
            self._owner.turn_ready(turn)

    def on_body(self, data: bytes) -> None:
        self.body_bytes += len(data)
        if self.body_bytes > self._body_limit:
            raise PayloadTooLarge(f"the body may have at most {self._body_limit} bytes")
        if self._turn is not None and self._turn.receiving:
            if self._stream is not None:
                self._stream.feed(data)
        elif not self._body:
            self._body = data
        else:
            if isinstance(self._body, bytes):
                # Many small pieces as objects would cost a multiple of the limit.
                self._body = bytearray(self._body)
            self._body += data

    def on_message_complete(self) -> None:
        turn, stream, body = self._turn, self._stream, self._body
        if turn is None:
            raise RequestError(_MALFORMED)
        self._begin_message()
        if turn.receiving:
            turn.receiving = False
            if stream is not None:
                stream.finish()
            return
        turn.request.body = body if isinstance(body, bytes) else bytes(body)
        self._owner.turn_ready(turn)
