"""Asks an instance over its own Unix socket how it is."""

import asyncio
import contextlib

import httptools
import msgspec

ANSWER_LIMIT = 256 * 1024


class Health(msgspec.Struct, frozen=True):
    """The body of /readyz: `checks` is "ok" or a reason, by dependency."""

    status: str = ""
    checks: dict[str, str] = {}


class Answer(msgspec.Struct, frozen=True):
    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def health(self) -> Health:
        """The body as a readiness report; empty when it is something else."""
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.decode(self.body, type=Health)
        return Health()


class _Collector:
    """What httptools calls while it parses."""

    def __init__(self) -> None:
        self.body = b""
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.body += data
        if len(self.body) > ANSWER_LIMIT:
            raise ValueError("the answer is too long")

    def on_message_complete(self) -> None:
        self.complete = True


async def ask(path: str, target: str, *, timeout: float) -> Answer | None:
    """GET `target` on the Unix socket `path`; None when there is no (whole) answer in `timeout` seconds.

    While nobody accepts, the request waits in the socket's queue: the answer comes with the first accept.
    """
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return await _exchange(reader, writer, target)
            finally:
                writer.close()
    except (TimeoutError, OSError, httptools.HttpParserError, ValueError):
        return None


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str) -> Answer | None:
    writer.write(f"GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
    collector = _Collector()
    parser = httptools.HttpResponseParser(collector)
    while not collector.complete:
        data = await reader.read(65536)
        if not data:
            return None
        parser.feed_data(data)
    return Answer(parser.get_status_code(), collector.body)
