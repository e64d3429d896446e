"""The supervisor speaks to the config server as a module that may follow, and write what its kind lets it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from moonpool.contracts import context
from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.core.errors import Conflict, Unavailable, Unprocessable, UpstreamError
from moonpool.wiring.config_link import ConfigLink

KEY = b"k" * 32


class Server:
    """One answer for every request, which it keeps."""

    def __init__(self) -> None:
        self.answer = b""
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.endpoint = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            self.bodies.append(await reader.readexactly(int(field(head, b"content-length") or b"0")))
            writer.write(self.answer)
            await writer.drain()
        writer.close()


def field(head: bytes, name: bytes) -> bytes:
    lines = (line.partition(b":") for line in head.split(b"\r\n"))
    return next((value.strip() for key, _, value in lines if key.lower() == name), b"")


@pytest.fixture
async def server(tmp_path) -> AsyncIterator[Server]:
    found = Server()
    path = tmp_path / "config.sock"
    async with await asyncio.start_unix_server(found.serve, path):
        found.endpoint = f"unix:{path}"
        yield found


@pytest.fixture
async def link(server: Server) -> AsyncIterator[ConfigLink]:
    found = ConfigLink("supervisor", lambda: server.endpoint, KEY, SYSTEM_CLOCK)
    yield found
    await found.close()


def answer(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (status, len(body), body)


async def test_it_follows_as_itself(server: Server, link: ConfigLink) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    server.answer = head + b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    assert b"".join([chunk async for chunk in link.connect("e:7")]) == b"onetwo"
    (head,) = server.heads
    assert head.startswith(b"GET /internal/documents/watch?since=e%3A7 HTTP/1.1\r\n")
    value = field(head, context.HEADER)
    signed = context.verify(KEY, value, audience="config", now=SYSTEM_CLOCK.time())
    assert (signed.issuer, signed.principal.service) == ("supervisor", "supervisor")
    assert signed.principal.user == ""


async def test_the_first_document(server: Server, link: ConfigLink) -> None:
    server.answer = answer(200, b'{"version": 1}')
    await link.first("releases/chat", {"service": "chat"}, "why")
    assert server.heads[0].startswith(b"PUT /internal/documents/releases/chat HTTP/1.1\r\n")
    assert server.bodies == [b'{"content":{"service":"chat"},"version":0,"reason":"why"}']


@pytest.mark.parametrize(("status", "kind"), [(409, Conflict), (422, Unprocessable), (503, Unavailable)])
async def test_what_is_refused(server: Server, link: ConfigLink, status: int, kind: type[Exception]) -> None:
    server.answer = answer(status, b'{"error": {"message": "releases.v2: no", "type": "x"}}')
    with pytest.raises(kind, match=r"releases\.v2: no"):
        await link.first("releases/chat", {}, "")
    server.answer = answer(status, b"nonsense")
    with pytest.raises(kind, match=f"answered {status}"):
        await link.first("releases/chat", {}, "")


async def test_nobody_there(server: Server, link: ConfigLink) -> None:
    server.answer = answer(503, b"{}")
    with pytest.raises(Unavailable, match="answered 503"):
        await anext(link.connect(""))
    server.endpoint += "x"
    with pytest.raises(UpstreamError):
        await anext(link.connect(""))
    server.endpoint = ""
    with pytest.raises(Unavailable, match="no config server runs"):
        await anext(link.connect(""))
