"""The upstream client against raw endpoints: framing, reuse, times, back-pressure, and every way to break."""

import asyncio
import socket
import struct
from typing import Any

import pytest

from moonpool.core.body import Outcome, Stream
from moonpool.core.errors import (
    ConnectFailed,
    ConnectionReset,
    FirstByteTimeout,
    StreamStalled,
    StreamTruncated,
    UpstreamMalformed,
)
from moonpool.core.message import Request, Response
from moonpool.http.address import Address
from moonpool.http.client import Client
from moonpool.http.reading import from_iterator, iterate, read

TIMES = {"connect_timeout": 10.0, "first_byte_timeout": 10.0, "idle_timeout": 10.0}
QUICK = {"connect_timeout": 10.0, "first_byte_timeout": 0.3, "idle_timeout": 0.3}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


async def request_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def answering(*answers: bytes, then: str = "keep") -> Any:
    """A script that gives each request the next of `answers` (the last one forever)."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for n in range(1000):
            head = await request_head(reader)
            length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            writer.write(answers[min(n, len(answers) - 1)])
            if then == "close":
                return
            if then == "reset":
                await writer.drain()
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return

    return script


async def whole(response: Response) -> bytes:
    return await read(response.body, 1 << 30)


# ── framing ────────────────────────────────────────────────────────────────────────────────────────

GOOD: dict[str, tuple[bytes, bytes, bool]] = {
    "length": (OK, b"ok", True),
    "chunked": (CHUNKED + b"2\r\nok\r\n0\r\n\r\n", b"ok", True),
    "trailers": (CHUNKED + b"2\r\nok\r\n0\r\na: b\r\n\r\n", b"ok", True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", b"", True),
    "early hints": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + OK, b"ok", True),
    "1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok", False),
    "1.0 keep-alive": (
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
        b"ok",
        True,
    ),
    "close": (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", b"ok", False),
    "surplus": (OK + b"x", b"ok", False),
    "second answer": (OK + OK, b"ok", False),
    "events with length": (SSE + b"content-length: 2\r\n\r\nok", b"ok", True),
}


@pytest.mark.parametrize("name", GOOD)
async def test_framing_and_reuse(name: str, upstream: Any, client: Client) -> None:
    raw, body, reused = GOOD[name]
    endpoint, address = await upstream(answering(raw))
    for _ in range(2):
        response = await client.send(address, Request("POST", "/x", body=b"abc"), **TIMES)
        assert await whole(response) == body
        assert b"connection" not in dict(response.headers)
        await asyncio.sleep(0.01)
    assert endpoint.accepted == (1 if reused else 2)
    assert client.stats.active == 0


@pytest.mark.parametrize("name", GOOD)
async def test_framing_byte_by_byte(name: str, upstream: Any, client: Client) -> None:
    raw, body, _ = GOOD[name]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        for byte in raw:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    _, address = await upstream(script)
    assert await whole(await client.send(address, Request("GET", "/"), **TIMES)) == body


async def test_until_close(upstream: Any, client: Client) -> None:
    _, address = await upstream(answering(b"HTTP/1.1 200 OK\r\n\r\nok", then="close"))
    response = await client.send(address, Request("GET", "/"), **TIMES)
    assert isinstance(response.body, Stream)
    assert await whole(response) == b"ok"


async def test_head_has_no_body(upstream: Any, client: Client) -> None:
    endpoint, address = await upstream(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", OK))
    response = await client.send(address, Request("HEAD", "/"), **TIMES)
    assert (response.body, response.header(b"content-length")) == (b"", b"5")
    assert (await client.send(address, Request("GET", "/"), **TIMES)).body == b"ok"
    assert endpoint.accepted == 1


BAD: dict[str, bytes] = {
    "garbage": b"hello\r\n\r\n",
    "length and coding": b"HTTP/1.1 200\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
    "unknown coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok",
    "double coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "fold": b"HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 0\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    "version": b"HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "status": b"HTTP/1.1 099 OK\r\ncontent-length: 2\r\n\r\nok",
    "endless head": b"HTTP/1.1 200 OK\r\na: " + b"b" * 200_000,
    "large head": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\na: " + b"b" * 70_000 + b"\r\n\r\n",
    "many fields": b"HTTP/1.1 204 OK\r\n" + b"a: b\r\n" * 201 + b"\r\n",
}


@pytest.mark.parametrize("name", BAD)
async def test_malformed(name: str, upstream: Any, client: Client) -> None:
    _, address = await upstream(answering(BAD[name]))
    with pytest.raises(UpstreamMalformed):
        await client.send(address, Request("GET", "/"), **TIMES)
    assert client.stats.active == client.stats.idle == 0


async def test_malformed_chunk_after_good_ones(upstream: Any, client: Client) -> None:
    _, address = await upstream(answering(CHUNKED + b"2\r\nok\r\nzz\r\n"))
    with pytest.raises(UpstreamMalformed):
        await whole(await client.send(address, Request("GET", "/"), **TIMES))


async def test_what_is_sent(upstream: Any, client: Client) -> None:
    seen: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request_head(reader) + await reader.readexactly(3))
        writer.write(OK)

    _, address = await upstream(script)
    address = Address.parse(f"{address.url}/base/")
    headers = {b"b": b"1", b"a": b"2", b"host": b"evil", b"connection": b"close", b"content-length": b"9"}
    await client.send(address, Request("POST", "/x", "q=1", headers, b"abc"), **TIMES)
    assert seen[0].decode() == (
        f"POST /base/x?q=1 HTTP/1.1\r\nhost: 127.0.0.1:{address.port}\r\nb: 1\r\na: 2\r\n"
        "content-length: 3\r\n\r\nabc"
    )


# ── breaking ───────────────────────────────────────────────────────────────────────────────────────


async def test_refused(client: Client) -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    address = Address.parse(f"http://127.0.0.1:{sock.getsockname()[1]}")
    sock.close()
    for where in (address, Address.parse("unix:/nowhere/at.sock")):
        with pytest.raises(ConnectFailed) as raised:
            await client.send(where, Request("GET", "/"), **TIMES)
        assert str(where) in raised.value.detail
        assert str(where) not in raised.value.message


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", ConnectionReset),
        (b"HTTP/1.1 200 OK\r\ncontent-le", ConnectionReset),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok", StreamTruncated),
        (CHUNKED + b"5\r\nok", StreamTruncated),
        (SSE + b"content-length: 500\r\n\r\ndata: 1\n\n", StreamTruncated),
    ],
)
async def test_broken_off(
    raw: bytes, error: type[Exception], then: str, upstream: Any, client: Client
) -> None:
    _, address = await upstream(answering(raw, then=then))
    with pytest.raises(error):
        await whole(await client.send(address, Request("POST", "/", body=b"a"), **TIMES))
    assert client.stats.idle == 0


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", FirstByteTimeout),
        (b"HTTP/1.1 200 OK\r\n", FirstByteTimeout),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok", StreamStalled),
        (CHUNKED + b"2\r\nok\r\n", StreamStalled),
    ],
)
async def test_silence(raw: bytes, error: type[Exception], upstream: Any, client: Client) -> None:
    endpoint, address = await upstream(answering(raw))
    with pytest.raises(error):
        await whole(await client.send(address, Request("GET", "/"), **QUICK))
    await asyncio.wait_for(endpoint.gone.wait(), 5)


async def test_no_stall_while_events_come(upstream: Any, client: Client) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(CHUNKED)
        for _ in range(12):
            await asyncio.sleep(0.05)
            writer.write(b"1\r\nx\r\n")
        writer.write(b"0\r\n\r\n")
        await reader.read()

    _, address = await upstream(script)
    assert await whole(await client.send(address, Request("GET", "/"), **QUICK)) == b"x" * 12


async def test_cancelled_call_closes_the_connection(upstream: Any, client: Client) -> None:
    began = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        began.set()
        await reader.read()

    endpoint, address = await upstream(script)
    task = asyncio.create_task(client.send(address, Request("GET", "/"), **TIMES))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(endpoint.gone.wait(), 5)
    assert client.stats.active == 0


async def test_cancelled_stream_closes_the_connection(upstream: Any, client: Client) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(SSE + b"\r\ndata: 1\n\n")
        await reader.read()

    endpoint, address = await upstream(script)
    response = await client.send(address, Request("GET", "/"), **TIMES)
    assert isinstance(response.body, Stream)
    response.body.cancel()
    await asyncio.wait_for(endpoint.gone.wait(), 5)


# ── reuse of dead connections ──────────────────────────────────────────────────────────────────────


async def test_stale_connection_is_not_used(upstream: Any, client: Client) -> None:
    endpoint, address = await upstream(answering(OK, then="close"))
    for n in range(3):
        assert (await client.send(address, Request("POST", "/", body=b"a"), **TIMES)).body == b"ok"
        await asyncio.wait_for(endpoint.gone.wait(), 5)
        await asyncio.sleep(0.01)
        assert endpoint.accepted == n + 1


@pytest.mark.parametrize(("method", "answered"), [("GET", True), ("POST", False)])
async def test_dying_connection(method: str, answered: bool, upstream: Any, client: Client) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(OK)
        await request_head(reader)  # took the second request and died of it

    endpoint, address = await upstream(script)
    request = Request(method, "/")
    await client.send(address, request, **TIMES)
    if answered:
        assert (await client.send(address, request, **TIMES)).body == b"ok"
        assert endpoint.accepted == 2
    else:
        with pytest.raises(ConnectionReset):
            await client.send(address, request, **TIMES)
        assert endpoint.accepted == 1


async def test_unasked_bytes_end_an_idle_connection(upstream: Any, client: Client) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(OK)
        await reader.read()

    endpoint, address = await upstream(script)
    await client.send(address, Request("GET", "/"), **TIMES)
    await asyncio.wait_for(endpoint.gone.wait(), 5)
    assert client.stats.idle == 0


# ── the pool ───────────────────────────────────────────────────────────────────────────────────────


async def test_pool_bounds_connections(upstream: Any) -> None:
    running = peak = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal running, peak
        while True:
            await request_head(reader)
            running += 1
            peak = max(peak, running)
            await asyncio.sleep(0.01)
            running -= 1
            writer.write(OK)

    endpoint, address = await upstream(script)
    client = Client(max_connections=3)
    sends = [client.send(address, Request("GET", "/"), **TIMES) for _ in range(12)]
    assert {r.body for r in await asyncio.gather(*sends)} == {b"ok"}
    assert (peak, endpoint.accepted) == (3, 3)
    await client.aclose()


async def test_waiting_for_a_place_is_bounded(upstream: Any) -> None:
    _, address = await upstream(answering(CHUNKED))
    client = Client(max_connections=1)
    times = TIMES | {"connect_timeout": 0.05}
    first = await client.send(address, Request("GET", "/"), **times)
    with pytest.raises(ConnectFailed):
        await client.send(address, Request("GET", "/"), **times)
    assert isinstance(first.body, Stream)
    first.body.cancel()
    await client.send(address, Request("GET", "/"), **(TIMES))
    await client.aclose()


async def test_idle_connections_expire(upstream: Any) -> None:
    endpoint, address = await upstream(answering(OK))
    client = Client(idle_expiry=0.1)
    await client.send(address, Request("GET", "/"), **TIMES)
    assert client.stats.idle == 1
    await asyncio.wait_for(endpoint.gone.wait(), 5)
    assert client.stats.idle == 0
    await client.aclose()


# ── bodies that stream up, and back-pressure ───────────────────────────────────────────────────────


async def pieces(*data: bytes) -> Any:
    for piece in data:
        await asyncio.sleep(0)
        yield piece


@pytest.mark.parametrize(
    ("headers", "wire"),
    [({}, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), ({b"content-length": b"5"}, b"abcde")],
)
async def test_streamed_request(headers: Any, wire: bytes, upstream: Any, client: Client) -> None:
    seen: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        seen.append(await reader.readexactly(len(wire)))
        writer.write(OK)

    _, address = await upstream(script)
    request = Request("POST", "/", headers=headers, body=from_iterator(pieces(b"abc", b"de")))
    assert (await client.send(address, request, **TIMES)).body == b"ok"
    assert seen == [wire]


async def test_upload_is_paused_by_an_endpoint_that_does_not_read(upstream: Any, client: Client) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 65536
            yield b"x" * 65536

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.transport.pause_reading()
        await asyncio.sleep(10)

    _, address = await upstream(script)
    with pytest.raises(FirstByteTimeout):
        await client.send(address, Request("POST", "/", body=from_iterator(endless())), **QUICK)
    assert sent < 16 << 20  # the kernel's buffers and ours, no more


async def test_early_answer_ends_the_upload(upstream: Any, client: Client) -> None:
    async def endless() -> Any:
        while True:
            await asyncio.sleep(0.001)
            yield b"x"

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await reader.read()

    _, address = await upstream(script)
    body = from_iterator(endless())
    assert (await client.send(address, Request("POST", "/", body=body), **TIMES)).status == 413
    assert body.outcome is Outcome.CANCELLED
    assert client.stats.idle == 0


async def test_slow_consumer_pauses_the_endpoint(upstream: Any, client: Client) -> None:
    written = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await request_head(reader)
        writer.write(CHUNKED)
        for _ in range(1000):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            written += 65536
        writer.write(b"0\r\n\r\n")
        await reader.read()

    _, address = await upstream(script)
    response = await client.send(address, Request("GET", "/"), **QUICK)
    await asyncio.sleep(0.7)  # longer than the idle time-out: a pause of ours is no stall
    assert written < 16 << 20
    assert isinstance(response.body, Stream)
    assert response.body._held_size < 64 * 1024 + 256 * 1024 + 1
    total = 0
    async for chunk in iterate(response.body):
        total += len(chunk)
    assert total == 65536 * 1000


# ── proxied ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("unix", [False, True])
async def test_a_proxy_relays_and_cancels_through(
    unix: bool, serve: Any, upstream: Any, client: Client
) -> None:
    gone = asyncio.Event()

    async def origin(request: Request) -> Response:
        async def events() -> Any:
            try:
                for n in range(1 << 30):
                    yield b"data: %d\n\n" % n
                    await asyncio.sleep(0.001)
            finally:
                gone.set()

        return Response(200, [(b"content-type", b"text/event-stream")], from_iterator(events()))

    behind = await serve(origin, unix=unix)
    address = Address.parse(behind.url)

    async def forward(request: Request) -> Response:
        return await client.send(address, request, **TIMES)

    edge = await serve(forward, unix=unix)
    reader, writer = await edge.open()
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"data: 20\n\n"), 5)
    writer.close()
    await asyncio.wait_for(gone.wait(), 5)
