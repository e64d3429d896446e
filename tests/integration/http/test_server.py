"""The edge over real sockets: turns, streams, back-pressure, times, and its end."""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from moonpool.core.body import Outcome, Stream
from moonpool.core.errors import ConnectFailed, StreamTruncated
from moonpool.core.message import Request, Response
from moonpool.http.address import Address
from moonpool.http.client import Client
from moonpool.http.limits import BodyPolicy, Limits
from moonpool.http.reading import read
from moonpool.http.server import Server

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
EVENTS = [(b"content-type", b"text/event-stream")]


async def echo(request: Request) -> Response:
    return Response(200, [], await read(request.body, 1 << 30))


class Source:
    """A producer a test can look at."""

    def __init__(self) -> None:
        self.stream = Stream(self)
        self.paused = asyncio.Event()
        self.resumed = asyncio.Event()
        self.cancelled = asyncio.Event()

    def pause(self) -> None:
        self.paused.set()

    def resume(self) -> None:
        self.resumed.set()

    def cancel(self) -> None:
        self.cancelled.set()


def fast(**changes: Any) -> Limits:
    values: dict[str, Any] = {"header_timeout": 0.2, "idle_timeout": 0.2, "body_grace": 0.2, "linger": 0.1}
    return Limits(**(values | changes))


async def wait(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 5)


async def push(writer: asyncio.StreamWriter, data: bytes) -> int:
    """Write `data` again and again until the other side takes no more: how many bytes that were."""
    sent = 0
    try:
        async with asyncio.timeout(0.5):
            while True:
                writer.write(data)
                sent += len(data)
                await writer.drain()
    except TimeoutError:
        return sent


# ── requests ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("unix", [False, True])
async def test_keep_alive_and_close(serve: Any, unix: bool) -> None:
    edge = await serve(echo, unix=unix)
    data = await edge.talk(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + LAST)
    first, second = data.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert first.endswith(b"\r\n\r\nabc")
    assert b"content-length: 3\r\n" in first
    assert b"date: " in first
    assert b"server" not in first
    assert b"connection: close\r\n" in second
    assert edge.server.connections <= 1


async def test_what_the_application_sees(serve: Any) -> None:
    seen: list[Request] = []

    async def app(request: Request) -> Response:
        seen.append(request)
        return Response(204)

    edge = await serve(app)
    await edge.talk(
        b"GET /a%20b?c=d&e HTTP/1.1\r\nHost: A\r\nX-Moonpool-Tenant: evil\r\nx-moonpool-explain: 1\r\n"
        b"X-MOONPOOL-CACHE: no\r\nAccept: a\r\nAccept: b\r\nCookie: a=1\r\nCookie: b=2\r\nX-Secret: s\r\n"
        b"Connection: close, X-Secret\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: x\r\n\r\n"
    )
    request = seen[0]
    assert (request.method, request.path, request.query, request.peer) == (
        "GET",
        "/a%20b",
        "c=d&e",
        "127.0.0.1",
    )
    assert request.headers == {
        b"host": b"A",
        b"x-moonpool-explain": b"1",
        b"x-moonpool-cache": b"no",
        b"accept": b"a, b",
        b"cookie": b"a=1; b=2",
    }


async def test_pipelined_requests_are_answered_in_order(serve: Any) -> None:
    running = 0

    async def app(request: Request) -> Response:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.02 if request.path == "/0" else 0)
        running -= 1
        return Response(200, [], request.path.encode())

    edge = await serve(app)
    raw = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(100))
    data = await edge.talk(raw + LAST)
    assert re.findall(rb"\r\n\r\n/(\d+|last)", data) == [b"%d" % n for n in range(100)] + [b"last"]


async def test_a_full_pipeline_is_read_no_further(serve: Any) -> None:
    release = asyncio.Event()

    async def app(request: Request) -> Response:
        await release.wait()
        return Response(200)

    edge = await serve(app, limits=Limits(pipelined=4))
    reader, writer = await edge.open()
    large = GET[:-2] + b"A: " + b"a" * 8000 + b"\r\n\r\n"
    sent = await push(writer, large * 10) // len(large)
    release.set()
    for _ in range(sent):
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    writer.close()


async def test_answers_nobody_takes_do_not_pile_up(serve: Any) -> None:
    asked = 0

    async def app(request: Request) -> Response:
        nonlocal asked
        asked += 1
        return Response(200, [], b"x" * (1 << 20))

    edge = await serve(app)
    reader, writer = await edge.open()
    writer.transport.pause_reading()
    writer.write(GET * 200 + LAST)
    before = -1
    while asked != before:
        before = asked
        await asyncio.sleep(0.1)
    assert asked < 30  # what the kernel's buffers take, and one more
    writer.transport.resume_reading()
    total = 0
    while chunk := await asyncio.wait_for(reader.read(1 << 20), 5):
        total += len(chunk)
    assert asked == 201
    assert total > 201 << 20
    writer.close()


async def test_expect_continue(serve: Any) -> None:
    edge = await serve(echo)
    reader, writer = await edge.open()
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    assert (await reader.readuntil(b"abc")).startswith(b"HTTP/1.1 200 OK")
    writer.close()


async def test_expect_continue_is_refused_before_the_body(serve: Any) -> None:
    edge = await serve(echo, body_policy=lambda _: BodyPolicy(10, False))
    data = await edge.talk(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n"
    )
    assert data.startswith(b"HTTP/1.1 413 ")


async def test_chunked_body_beyond_the_limit(serve: Any) -> None:
    edge = await serve(echo, limits=Limits(body=100))
    data = await edge.talk(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"a\r\n0123456789\r\n" * 11
    )
    assert data.startswith(b"HTTP/1.1 413 ")


async def test_a_refusal_survives_a_client_that_keeps_sending(serve: Any) -> None:
    edge = await serve(echo, limits=Limits(body=100))
    reader, writer = await edge.open()
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
    for _ in range(30):
        writer.write(b"x" * 100_000)
        await writer.drain()
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_streamed_request_body_pauses_the_client(serve: Any) -> None:
    streams: list[Stream] = []
    go = asyncio.Event()

    async def app(request: Request) -> Response:
        assert isinstance(request.body, Stream)
        streams.append(request.body)
        await go.wait()
        return Response(200, [], b"%d" % len(await read(request.body, 1 << 30)))

    edge = await serve(app, body_policy=lambda _: BodyPolicy(1 << 30, True))
    reader, writer = await edge.open()
    size = 16 << 20
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    sent = await push(writer, b"x" * 65536)
    assert sent < size
    assert streams[0]._held_size < 64 * 1024 + 256 * 1024 + 1  # the limit and one read
    go.set()
    writer.write(b"x" * (size - sent))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert await reader.readexactly(8) == b"%d" % size
    assert b"connection: close" not in head
    writer.close()


async def test_an_answer_before_the_body_ends_closes(serve: Any) -> None:
    async def app(request: Request) -> Response:
        return Response(403)

    edge = await serve(app, body_policy=lambda _: BodyPolicy(1 << 30, True))
    data = await edge.talk(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
    assert data.startswith(b"HTTP/1.1 403 ")
    assert b"connection: close\r\n" in data


async def test_streamed_body_that_breaks_off_fails_the_stream(serve: Any) -> None:
    outcome = asyncio.Event()

    async def app(request: Request) -> Response:
        try:
            await read(request.body, 1000)
        finally:
            outcome.set()
        return Response(200)

    edge = await serve(app, body_policy=lambda _: BodyPolicy(1 << 30, True))
    data = await edge.talk(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"
    )
    assert data.startswith(b"HTTP/1.1 400 ")
    assert outcome.is_set()


# ── answers ────────────────────────────────────────────────────────────────────────────────────────


def streaming(source: Source, headers: list[tuple[bytes, bytes]] | None = None) -> Any:
    async def app(request: Request) -> Response:
        return Response(200, headers or [], source.stream)

    return app


async def test_stream_is_chunked_and_the_connection_stays(serve: Any) -> None:
    async def app(request: Request) -> Response:
        if request.path == "/last":
            return Response(200)
        source = Source()
        source.stream.feed(b"abc")
        asyncio.get_running_loop().call_later(
            0.01, lambda: (source.stream.feed(b"de"), source.stream.finish())
        )
        return Response(200, [], source.stream)

    edge = await serve(app)
    data = await edge.talk(GET + LAST)
    assert b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nHTTP/1.1 200 OK" in data


@pytest.mark.parametrize(
    ("pieces", "end"),
    [
        ([LAST[:20], LAST[20:]], b"\r\n\r\n/last"),
        ([LAST[:2], LAST[2:]], b"\r\n\r\n/last"),
        (
            [b"POST /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", b"Content-Length: 3\r\n\r\nabc"],
            b"\r\n\r\n/last",
        ),
        ([b"no HTTP\r\n\r\n"], b"the request is not well-formed HTTP/1.1"),
    ],
)
@pytest.mark.parametrize("rests", [True, False])
async def test_what_comes_while_an_answer_streams_waits_for_its_end(
    serve: Any, pieces: list[bytes], end: bytes, rests: bool
) -> None:
    source = Source()

    async def app(request: Request) -> Response:
        if request.path == "/last":
            await read(request.body, 10)
            return Response(200, [], b"/last")
        return Response(200, [], source.stream)

    edge = await serve(app)
    reader, writer = await edge.open()
    writer.write(GET if rests else GET + pieces[0])
    source.stream.feed(b"abc")
    await asyncio.wait_for(reader.readuntil(b"3\r\nabc\r\n"), 5)
    for piece in pieces[not rests :]:
        writer.write(piece)
        await asyncio.sleep(0.01)
    source.stream.feed(b"de")
    source.stream.finish()
    data = await asyncio.wait_for(reader.read(), 5)
    assert data.startswith(b"2\r\nde\r\n0\r\n\r\nHTTP/1.1 ")
    assert data.endswith(end)


@pytest.mark.parametrize(
    ("given", "end"), [(b"abc", b"\r\n\r\nabc"), (b"ab", b"\r\n\r\nab"), (b"abcd", b"\r\n\r\n")]
)
async def test_stream_with_length_never_lies(serve: Any, given: bytes, end: bytes) -> None:
    source = Source()
    source.stream.feed(given)
    source.stream.finish()
    edge = await serve(streaming(source, [(b"content-length", b"3")]))
    reader, writer = await edge.open()
    writer.write(GET + (LAST if len(given) != 3 else b""))
    if len(given) == 3:
        assert (await reader.readuntil(b"abc")).endswith(end)
    else:
        assert (await asyncio.wait_for(reader.read(), 5)).endswith(end)  # cut, and nothing after it
    writer.close()


async def test_broken_stream_is_cut_without_an_end(serve: Any) -> None:
    source = Source()
    source.stream.feed(b"abc")
    source.stream.fail(StreamTruncated("gone"))
    edge = await serve(streaming(source))
    assert (await edge.talk(GET)).endswith(b"\r\n\r\n3\r\nabc\r\n")


async def test_broken_event_stream_says_so(serve: Any) -> None:
    source = Source()
    source.stream.feed(b"data: 1\n\nda")
    source.stream.fail(StreamTruncated("gone"))
    edge = await serve(streaming(source, EVENTS))
    data = await edge.talk(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert b'2\r\n\n\n\r\n24\r\ndata: {"error": "StreamTruncated"}\n\n' in data
    assert data.endswith(b"\r\n0\r\n\r\n")


async def test_http10_gets_no_chunks_and_a_reset_for_a_broken_end(serve: Any) -> None:
    whole, broken = Source(), Source()
    for source in (whole, broken):
        source.stream.feed(b"abc")
    whole.stream.finish()
    edge = await serve(streaming(whole))
    assert (await edge.talk(b"GET / HTTP/1.0\r\n\r\n")).endswith(b"connection: close\r\n\r\nabc")
    edge = await serve(streaming(broken))
    reader, writer = await edge.open()
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    await reader.readuntil(b"abc")
    broken.stream.fail(StreamTruncated("gone"))
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 5)
    writer.close()


async def test_head_and_bodiless(serve: Any) -> None:
    async def app(request: Request) -> Response:
        status = int(request.path[1:])
        return Response(status, [], b"abc")

    edge = await serve(app)
    data = await edge.talk(
        b"HEAD /200 HTTP/1.1\r\nHost: a\r\n\r\n"
        b"GET /204 HTTP/1.1\r\nHost: a\r\n\r\n"
        b"GET /304 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    heads = data.split(b"\r\n\r\n")
    assert len(heads) == 4
    assert heads[3] == b""
    assert b"content-length: 3" in heads[0]
    assert b"content-length" not in heads[1] + heads[2]


async def test_application_failure_and_header_injection_are_500(serve: Any) -> None:
    async def app(request: Request) -> Response:
        if request.path == "/last":
            return Response(200, [(b"x-a", b"b\r\nx-c: d")], b"")
        raise ZeroDivisionError

    edge = await serve(app)
    data = await edge.talk(GET + LAST)
    assert data.count(b"HTTP/1.1 500 ") == 2
    assert b"x-c" not in data


async def test_an_unwritable_answer_closes_the_connection(serve: Any) -> None:
    async def app(request: Request) -> Response:
        return Response(200, [("text", "not bytes")], b"")  # type: ignore[list-item]

    edge = await serve(app)
    assert await edge.talk(GET) == b""
    assert edge.server.active == 0


async def test_an_application_that_cancels_itself_closes_the_connection(serve: Any) -> None:
    async def app(request: Request) -> Response:
        raise asyncio.CancelledError

    edge = await serve(app)
    with contextlib.suppress(ConnectionResetError):
        assert await edge.talk(GET) == b""
    assert edge.server.active == 0


async def test_refusing_an_upload_half_way(serve: Any) -> None:
    async def app(request: Request) -> Response:
        assert isinstance(request.body, Stream)
        request.body.cancel()
        await asyncio.sleep(0.05)
        return Response(403)

    edge = await serve(app, body_policy=lambda _: BodyPolicy(1 << 30, True))
    reader, writer = await edge.open()
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
    for _ in range(20):
        writer.write(b"x" * 100_000)
        await writer.drain()
    data = await asyncio.wait_for(reader.read(), 5)
    assert data.startswith(b"HTTP/1.1 403 ")
    assert b"connection: close\r\n" in data
    writer.close()


# ── back-pressure and clients that leave ───────────────────────────────────────────────────────────


async def test_slow_reader_pauses_the_stream_then_is_cut(serve: Any) -> None:
    source = Source()
    edge = await serve(streaming(source), limits=fast(slow_reader_timeout=0.4))
    _, writer = await edge.open()
    writer.transport.pause_reading()
    writer.write(GET)
    while not source.paused.is_set():
        source.stream.feed(b"x" * 16384)
        await asyncio.sleep(0)
    held = max(c._transport.get_write_buffer_size() for c in edge.server._connections)
    assert held <= 64 * 1024 + 2 * 16384  # the rest is in the kernel
    await wait(source.cancelled)
    assert source.stream.outcome is Outcome.CANCELLED
    while edge.server.connections:
        await asyncio.sleep(0.01)
    writer.close()


async def test_what_a_slow_reader_holds_is_bounded_in_the_kernel_too(serve: Any) -> None:
    source = Source()
    edge = await serve(streaming(source))
    loop, limits = asyncio.get_running_loop(), edge.server.limits
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.setblocking(False)
        await loop.sock_connect(reader, edge.place)
        await loop.sock_sendall(reader, GET)
        fed = 0
        while not edge.server.active:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)  # the answer's head is out
        while not source.paused.is_set():
            source.stream.feed(b"x" * 4096)
            fed += 4096
            await asyncio.sleep(0)
        window = reader.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert fed < limits.write_high_water + limits.kernel_unsent + window + 16 * 1024
    await wait(source.cancelled)


async def test_reader_that_catches_up_resumes_the_stream(serve: Any) -> None:
    source = Source()
    edge = await serve(streaming(source))
    reader, writer = await edge.open()
    writer.transport.pause_reading()
    writer.write(GET)
    while not source.paused.is_set():
        source.stream.feed(b"x" * 65536)
        await asyncio.sleep(0)
    writer.transport.resume_reading()
    drained = asyncio.create_task(reader.read(1 << 30))
    while not source.resumed.is_set():
        drained = asyncio.create_task(reader.read(1 << 20)) if drained.done() else drained
        await asyncio.sleep(0.001)
    drained.cancel()
    writer.close()
    await wait(source.cancelled)


@pytest.mark.parametrize("reset", [False, True])
async def test_client_gone_cancels_the_handler(serve: Any, reset: bool) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def app(request: Request) -> Response:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return Response(200)

    edge = await serve(app)
    _, writer = await edge.open()
    writer.write(GET)
    await wait(started)
    assert edge.server.active == 1
    if reset:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    await wait(cancelled)
    assert edge.server.active == 0


async def test_client_gone_cancels_the_stream(serve: Any) -> None:
    source = Source()
    source.stream.feed(b"data: 1\n\n")
    edge = await serve(streaming(source, EVENTS))
    reader, writer = await edge.open()
    writer.write(GET)
    await reader.readuntil(b"data: 1")
    writer.close()
    await wait(source.cancelled)
    assert edge.server.active == 0


# ── times ──────────────────────────────────────────────────────────────────────────────────────────


async def test_slow_headers(serve: Any) -> None:
    edge = await serve(echo, limits=fast())
    reader, writer = await edge.open()
    answer = asyncio.create_task(reader.readuntil(b"HTTP/1.1 408 "))
    for byte in GET[:-1]:
        if answer.done():
            break
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)
    assert await asyncio.wait_for(answer, 5)
    writer.close()


async def test_slow_body(serve: Any) -> None:
    edge = await serve(echo, limits=fast())
    data = await edge.talk(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc")
    assert data.startswith(b"HTTP/1.1 408 ")


async def test_a_body_answers_for_its_own_time_only(serve: Any) -> None:
    """Two bodies on one connection, each caught by a sweep on its way, with more than the grace between."""
    edge = await serve(echo, limits=fast(idle_timeout=30.0, header_timeout=30.0, body_grace=0.5))
    reader, writer = await edge.open()
    for _ in range(2):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        await asyncio.sleep(0.12)  # two sweeps
        writer.write(b"abc")
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(3) == b"abc"
        await asyncio.sleep(0.6)
    writer.close()


@pytest.mark.parametrize("raw", [b"", GET])
async def test_silent_connections_are_closed(serve: Any, raw: bytes) -> None:
    edge = await serve(echo, limits=fast())
    data = await edge.talk(raw)
    assert data.count(b"HTTP/1.1") == bool(raw)


# ── the end ────────────────────────────────────────────────────────────────────────────────────────


async def test_drain_closes_idle_finishes_running_cuts_the_rest(serve: Any) -> None:
    ends, never = Source(), Source()

    async def app(request: Request) -> Response:
        chosen = {"/ends": ends, "/never": never}.get(request.path)
        return Response(200, [], chosen.stream if chosen else b"")

    edge = await serve(app)
    idle_reader, idle = await edge.open()
    idle.write(GET)
    await idle_reader.readuntil(b"\r\n\r\n")
    pairs = []
    for path in (b"/ends", b"/never"):
        reader, writer = await edge.open()
        writer.write(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        await reader.readuntil(b"\r\n\r\n")
        pairs.append((reader, writer))
    draining = asyncio.create_task(edge.server.drain(0.3))
    assert await asyncio.wait_for(idle_reader.read(), 5) == b""
    with pytest.raises(ConnectionRefusedError):
        await edge.open()
    ends.stream.feed(b"x")
    ends.stream.finish()
    assert await pairs[0][0].read() == b"1\r\nx\r\n0\r\n\r\n"
    assert await draining == 1
    assert never.cancelled.is_set()
    assert edge.server.connections == edge.server.active == 0
    for _, writer in [*pairs, (idle_reader, idle)]:
        writer.close()


@pytest.mark.parametrize("unix", [False, True])
async def test_drain_leaves_a_shared_listener_open(unix: bool, tmp_path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    sock.bind(str(tmp_path / "s") if unix else ("127.0.0.1", 0))
    sock.listen()

    def server() -> Server:
        return Server(echo, render_error=lambda e: Response(e.status), render_stream_error=lambda _: b"")

    first, second = server(), server()
    await first.start([sock])
    assert await first.drain(1) == 0
    # Accepted by the kernel while nobody serves: it waits in the queue, and is not lost.
    place = sock.getsockname()
    opening = asyncio.open_unix_connection(place) if unix else asyncio.open_connection(*place)
    reader, writer = await opening
    writer.write(GET)
    await second.start([sock])
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)).startswith(b"HTTP/1.1 200")
    writer.close()
    await second.drain(1)
    sock.close()


async def test_tls(serve: Any, tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
        f" -keyout {key} -out {cert} -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1",
        shell=True,
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    trust = ssl.create_default_context(cafile=str(cert))
    edge = await serve(echo, ssl=context, client_ssl=trust)
    assert b"200 OK" in await edge.talk(LAST)
    times = {"connect_timeout": 2.0, "first_byte_timeout": 2.0, "idle_timeout": 2.0}
    address = Address.parse(edge.url.replace("http", "https"))
    client = Client(ssl_context=trust)
    assert (await client.send(address, Request("POST", "/", body=b"abc"), **times)).body == b"abc"
    await client.aclose()
    distrusting = Client()
    with pytest.raises(ConnectFailed):
        await distrusting.send(address, Request("GET", "/"), **times)
    await distrusting.aclose()


async def test_expect_continue_behind_another_request(serve: Any) -> None:
    async def app(request: Request) -> Response:
        await asyncio.sleep(0.02)
        return Response(200, [], await read(request.body, 100))

    edge = await serve(app)
    reader, writer = await edge.open()
    expecting = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    writer.write(GET + expecting + b"abc" + GET + expecting)
    for start in (b"200", b"200", b"200", b"100"):
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 " + start)
        if reader._buffer.startswith(b"abc"):
            await reader.read(3)
    writer.write(b"xyz")
    assert (await asyncio.wait_for(reader.readuntil(b"xyz"), 5)).startswith(b"HTTP/1.1 200")
    writer.close()
