"""From llhttp's callbacks to a response: strict about framing, bounded in its head. No I/O."""

import httptools

from moonpool.core.errors import UpstreamMalformed
from moonpool.core.message import ResponseHeaders
from moonpool.http.framing import HOP_BY_HOP, bodiless, connection_tokens

HEADER_BYTES = 64 * 1024
HEADER_COUNT = 200
"""Twice what the edge grants clients: providers add many fields, but not without end."""

REFUSALS = (httptools.HttpParserError, httptools.HttpParserUpgrade)
"""What llhttp raises."""


class ResponseParser:
    """Reads answers one after the other.

    After `feed`: `head_complete`, `complete`, `surplus` tell how far it is; `chunks` is what of the
    body came, to be taken out by the caller.
    """

    __slots__ = (
        "_fed",
        "_head_only",
        "_headers",
        "_informational",
        "_parser",
        "chunks",
        "complete",
        "head_complete",
        "headers",
        "keep_alive",
        "length",
        "on_body",
        "pass_body",
        "status",
        "surplus",
        "until_close",
    )

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.on_body = self.chunks.append  # llhttp calls the list itself: no Python frame a piece
        self._headers: ResponseHeaders | None = None
        self._restart()
        self.begin(head_only=False)

    def _restart(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.pass_body = self._parser.feed_data

    def begin(self, *, head_only: bool) -> None:
        """Expect the answer to a new request; `head_only` when that is a HEAD."""
        self._head_only = head_only
        self._informational = False
        self._fed = 0
        self.headers: ResponseHeaders | None = None
        self.head_complete = False
        self.complete = False
        self.surplus = False
        self.keep_alive = False
        self.until_close = False
        self.length: int | None = None
        self.status = 0

    def feed(self, data: bytes) -> None:
        """Raises UpstreamMalformed; the parser is of no use afterwards.

        Once `head_complete`, `pass_body` does the same without a frame of ours: `failure` tells of what it
        raises.
        """
        self._fed += len(data)
        try:
            self.pass_body(data)
        except REFUSALS as error:
            failure = self.failure(error)
            if failure is not None:
                raise failure from None
            return
        if not self.head_complete and self._fed > HEADER_BYTES:
            raise UpstreamMalformed("the endpoint's headers are too large")
        if self._head_only and self.chunks:
            self.chunks.clear()
            self.surplus = True

    def hand_over(self) -> ResponseHeaders:
        """The head's fields, which are of no use here any more."""
        headers, self.headers = self.headers, None
        return headers or []

    def failure(self, error: Exception) -> UpstreamMalformed | None:
        """What llhttp's refusal means; None for what came after the answer's end, which is `surplus`."""
        if isinstance(error, httptools.HttpParserUpgrade):
            return UpstreamMalformed("the endpoint changed the protocol unasked")
        if self.complete:
            self.surplus = True
            return None
        cause = error.__context__
        if isinstance(cause, UpstreamMalformed):
            return cause
        return UpstreamMalformed(f"the endpoint's answer is not well-formed HTTP: {error}")

    def close(self) -> None:
        """Nothing will be fed any more: opens the circle with llhttp, so that both are freed at once."""
        del self._parser, self.pass_body

    # ── llhttp's callbacks ─────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        if self.complete:
            # Stops llhttp: bytes of an answer nobody asked for may not run into the one before it.
            raise UpstreamMalformed("the endpoint sent more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        if headers is None:
            headers = self._headers = []
        headers.append((name.lower(), value.rstrip()))
        if self.head_complete and len(headers) > HEADER_COUNT:
            raise UpstreamMalformed("the endpoint's trailers are too large")

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        headers, self._headers = self._headers or [], None
        status = self._parser.get_status_code()
        if status < 200:
            if status < 100 or status == 101:
                raise UpstreamMalformed(f"the endpoint answered with status {status}")
            self._informational = True
            return
        if self._fed > HEADER_BYTES and sum(len(n) + len(v) + 4 for n, v in headers) > HEADER_BYTES:
            raise UpstreamMalformed("the endpoint's headers are too large")
        if len(headers) > HEADER_COUNT:
            raise UpstreamMalformed("the endpoint sends too many headers")
        self.status = status
        self.keep_alive = self._parser.should_keep_alive()
        if not self.keep_alive and self._parser.get_http_version() not in ("1.1", "1.0"):
            raise UpstreamMalformed("the endpoint does not speak HTTP/1.1")
        self._read_framing(headers)
        self.head_complete = True
        if self._head_only:
            self.complete = True
            self._restart()  # llhttp would wait for the body that a HEAD does not have

    def _read_framing(self, headers: ResponseHeaders) -> None:
        chunked = hop_by_hop = False
        dropped = HOP_BY_HOP
        for name, value in headers:
            if name == b"content-length":
                self.length = int(value)
            elif name in HOP_BY_HOP:
                hop_by_hop = True
                if name == b"transfer-encoding":
                    if value.lower() != b"chunked":
                        raise UpstreamMalformed("the endpoint uses an unknown transfer coding")
                    chunked = True
                elif name == b"connection":
                    tokens = connection_tokens(value)
                    if b"close" in tokens:
                        self.keep_alive = False
                    dropped |= tokens - {b"content-length", b"content-type"}
        self.headers = [field for field in headers if field[0] not in dropped] if hop_by_hop else headers
        if self.length is None and not chunked and not bodiless(self.status) and not self._head_only:
            self.until_close = True
            self.keep_alive = False

    def on_message_complete(self) -> None:
        if self._informational:
            self._informational = False
            return
        self._headers = None
        self.complete = True
