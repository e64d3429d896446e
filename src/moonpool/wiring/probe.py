"""Asks an instance how it is, on a connection of its own."""

import asyncio
import contextlib
import ssl

import httptools
import msgspec

from moonpool.http.address import Address

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


async def ask(endpoint: str, target: str, *, timeout: float, key: str = "") -> Answer | None:
    """GET `target` below `endpoint` (`unix:PATH`, `http://…`, `https://…`), with `key` as a bearer token if
    there is one; None when there is no (whole) answer in `timeout` seconds.

    While nobody accepts on a Unix socket, the request waits in the socket's queue: the answer comes with the
    first accept.
    """
    address = Address.parse(endpoint)
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await _connect(address)
            try:
                return await _exchange(reader, writer, _head(address, target, key))
            finally:
                writer.close()
    except (TimeoutError, OSError, httptools.HttpParserError, ValueError):
        return None


async def _connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.socket_path:
        return await asyncio.open_unix_connection(address.socket_path)
    context = ssl.create_default_context() if address.tls else None
    return await asyncio.open_connection(address.host, address.port, ssl=context)


def _head(address: Address, target: str, key: str) -> bytes:
    fields = [f"GET {address.base}{target} HTTP/1.1", f"host: {address.host_field.decode()}"]
    if key:
        fields.append(f"authorization: Bearer {key}")
    return "\r\n".join([*fields, "connection: close", "", ""]).encode()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> Answer | None:
    writer.write(head)
    collector = _Collector()
    parser = httptools.HttpResponseParser(collector)
    while not collector.complete:
        data = await reader.read(65536)
        if not data:
            return None
        parser.feed_data(data)
    return Answer(parser.get_status_code(), collector.body)
