"""What the edge must refuse, over a real socket: status, then closed; and that it serves the next client."""

import asyncio
import re
import socket

import pytest

from moonpool.core.errors import MoonpoolError
from moonpool.core.message import Request, Response
from moonpool.http.server import Server

HOST = b"Host: a.example\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


def get(fields: bytes, line: bytes = b"GET / HTTP/1.1\r\n") -> bytes:
    return line + HOST + fields + b"\r\n"


def post(fields: bytes, body: bytes = b"abc") -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


REFUSED: dict[str, tuple[int, bytes]] = {
    "length and coding": (400, post(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n")),
    "coding and length": (400, post(b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", b"0\r\n\r\n")),
    "two lengths": (400, post(b"Content-Length: 3\r\nContent-Length: 3\r\n")),
    "length list": (400, post(b"Content-Length: 3, 3\r\n")),
    "length plus": (400, post(b"Content-Length: +3\r\n")),
    "length minus": (400, post(b"Content-Length: -3\r\n")),
    "length hex": (400, post(b"Content-Length: 0x3\r\n")),
    "length empty": (400, post(b"Content-Length: \r\n")),
    "length blank inside": (400, post(b"Content-Length: 3 4\r\n")),
    "length overflow": (400, post(b"Content-Length: 99999999999999999999\r\n")),
    "coding gzip, chunked": (400, post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n")),
    "coding chunked, gzip": (400, post(b"Transfer-Encoding: chunked, gzip\r\n", b"0\r\n\r\n")),
    "coding identity": (400, post(b"Transfer-Encoding: identity\r\n")),
    "coding xchunked": (400, post(b"Transfer-Encoding: xchunked\r\n")),
    "coding twice": (400, post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")),
    "coding with vertical tab": (400, post(b"Transfer-Encoding: \x0bchunked\r\n")),
    "coding in 1.0": (400, b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "bare LF everywhere": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "bare LF after line": (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    "bare LF after field": (400, b"GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n"),
    "bare LF at end": (400, b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    "bare CR": (400, get(b"A: b\rc\r\n")),
    "obs-fold": (400, get(b"A: b\r\n c\r\n")),
    "fold before first": (400, b"GET / HTTP/1.1\r\n A: b\r\n" + HOST + b"\r\n"),
    "NUL in value": (400, get(b"A: b\0c\r\n")),
    "NUL in name": (400, get(b"A\0: b\r\n")),
    "NUL in target": (400, get(b"", b"GET /a\0 HTTP/1.1\r\n")),
    "control in value": (400, get(b"A: b\x01c\r\n")),
    "space before colon": (400, get(b"A : b\r\n")),
    "no name": (400, get(b": b\r\n")),
    "no colon": (400, get(b"foo\r\n")),
    "underscore": (400, get(b"X_Y: b\r\n")),
    "high byte in name": (400, get(b"X\xff: b\r\n")),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, get(HOST)),
    "empty host": (400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    "host with blank": (400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "host with path": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "host with user": (400, b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    "host list": (400, b"GET / HTTP/1.1\r\nHost: a, b/\r\n\r\n"),
    "foreign absolute": (400, get(b"", b"GET http://other.example/ HTTP/1.1\r\n")),
    "foreign by user": (400, get(b"", b"GET http://a.example@other.example/ HTTP/1.1\r\n")),
    "foreign scheme": (400, get(b"", b"GET ftp://a.example/ HTTP/1.1\r\n")),
    "authorization twice": (400, get(b"Authorization: a\r\nAuthorization: b\r\n")),
    "content-type twice": (400, get(b"Content-Type: a\r\nContent-Type: b\r\n")),
    "fragment": (400, get(b"", b"GET /#a HTTP/1.1\r\n")),
    "asterisk": (400, get(b"", b"GET * HTTP/1.1\r\n")),
    "blank in target": (400, get(b"", b"GET /a b HTTP/1.1\r\n")),
    "version 2.0": (400, get(b"", b"GET / HTTP/2.0\r\n")),
    "version 1.2": (400, get(b"", b"GET / HTTP/1.2\r\n")),
    "version 0.9": (400, b"GET /\r\n\r\n"),
    "http2 preface": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "connect": (400, b"CONNECT a.example:443 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "trace": (400, get(b"", b"TRACE / HTTP/1.1\r\n")),
    "unknown method": (400, get(b"", b"BREW / HTTP/1.1\r\n")),
    "lower-case method": (400, get(b"", b"get / HTTP/1.1\r\n")),
    "tls hello": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "chunk LF": (400, CHUNKED + b"3\nabc\n0\n\n"),
    "chunk end LF": (400, CHUNKED + b"3\r\nabc\n0\r\n\r\n"),
    "chunk too long": (400, CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n"),
    "chunk blank": (400, CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n"),
    "chunk 0x": (400, CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk minus": (400, CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n"),
    "chunk empty size": (400, CHUNKED + b"\r\nabc\r\n0\r\n\r\n"),
    "chunk overflow": (400, CHUNKED + b"fffffffffffffffff\r\nabc"),
    "chunk extension LF": (400, CHUNKED + b"3;e\nabc\r\n0\r\n\r\n"),
    "trailer NUL": (400, CHUNKED + b"0\r\nA: \0\r\n\r\n"),
    "trailer length": (400, CHUNKED + b"0\r\nContent-Length: 3\r\n\r\n"),
    "endless trailers": (400, CHUNKED + b"1\r\na\r\n0\r\n" + b"".join(b"T%d: x\r\n" % n for n in range(200))),
    "endless extension": (400, CHUNKED + b"1;" + b"e" * 60_000),
    "long line": (414, get(b"", b"GET /" + b"a" * (8192 - 15) + b" HTTP/1.1\r\n")),
    "endless line": (414, b"GET /" + b"a" * 60_000),
    "many fields": (431, get(b"".join(b"A%d: b\r\n" % n for n in range(100)))),
    "many equal fields": (431, get(b"A: b\r\n" * 100)),
    "large fields": (431, get(b"A: " + b"b" * 33_000 + b"\r\n")),
    "endless field": (431, b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 300_000),
    "large body": (413, post(b"Content-Length: 10485761\r\n", b"")),
}

ACCEPTED: dict[str, bytes] = {
    "plain": get(b""),
    "absolute, own host": get(b"", b"GET http://a.example/ HTTP/1.1\r\n"),
    "absolute, upper case": get(b"", b"GET HTTP://A.Example HTTP/1.1\r\n"),
    "host with port": b"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
    "chunked": CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
    "chunk extension": CHUNKED + b"3;a=b\r\nabc\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"3\r\nabc\r\n0\r\nA: b\r\n\r\n",
    "length with blanks": post(b"Content-Length:  3 \r\n"),
    "99 fields more": get(b"".join(b"A%d: b\r\n" % n for n in range(99))),
    "list twice": get(b"Accept: a\r\nAccept: b\r\n"),
    "upgrade ignored": get(b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    "upgrade ignored with body": post(
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nContent-Length: 3\r\n"
    ),
    "options asterisk": get(b"", b"OPTIONS * HTTP/1.1\r\n"),
    "1.0 without host": b"GET / HTTP/1.0\r\n\r\n",
    "long line": get(b"", b"GET /" + b"a" * (8192 - 16) + b" HTTP/1.1\r\n"),
    "blank lines first": b"\r\n\r\n" + get(b""),
}


async def answer(request: Request) -> Response:
    return Response(200, [], request.body if isinstance(request.body, bytes) else b"")


def render(error: MoonpoolError) -> Response:
    return Response(error.status, [], error.message.encode())


async def exchange(raw: bytes, pieces: int = 0) -> bytes:
    """Everything the edge sends until it closes; with `pieces`, fed in that many bytes at a time."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    server = Server(answer, render_error=render, render_stream_error=lambda _: b"")
    await server.start([sock])
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    try:
        for start in range(0, len(raw), pieces or len(raw)):
            writer.write(raw[start : start + (pieces or len(raw))])
            if pieces:
                await asyncio.sleep(0)
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
        await server.drain(0)
        sock.close()


def statuses(data: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_and_closed(name: str) -> None:
    status, raw = REFUSED[name]
    # What follows must never be taken for a request of its own.
    data = await exchange(raw + get(b""))
    assert statuses(data) == [status]
    assert b"connection: close\r\n" in data


@pytest.mark.parametrize("name", [name for name, (_, raw) in REFUSED.items() if len(raw) < 400])
async def test_refused_byte_by_byte(name: str) -> None:
    status, raw = REFUSED[name]
    assert statuses(await exchange(raw + get(b""), pieces=1)) == [status]


@pytest.mark.parametrize("name", ACCEPTED)
async def test_accepted(name: str) -> None:
    raw = ACCEPTED[name]
    data = await exchange(raw + get(b"Connection: close\r\n"))
    assert statuses(data) == ([200] if b"HTTP/1.0" in raw else [200, 200])
    if raw.endswith(b"abc"):
        assert b"\r\n\r\nabc" in data


async def test_a_refusal_waits_for_the_answers_before_it() -> None:
    data = await exchange(get(b"") + get(b"") + b"\0")
    assert statuses(data) == [200, 200, 400]


async def test_an_offer_behind_another_request_runs_that_one_once() -> None:
    data = await exchange(get(b"Upgrade: x\r\n") + get(b"Connection: upgrade\r\nUpgrade: x\r\n"))
    assert statuses(data) == [200, 400]
