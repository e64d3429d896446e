"""Fuzz the edge: valid requests, mutated, split anywhere, into a connection without sockets.

    python tests/security/fuzz_edge.py --inputs 1000000 --seed 1

What must hold for each input: no exception leaves the protocol, no answer is a 5xx, what the
application sees obeys the rules it relies on, the connection answers, waits for more or ends, and
when the client is gone nothing is left: no task, no request, no connection.
"""

import argparse
import random
import re
import sys
import time
from collections.abc import Coroutine
from typing import Any

from moonpool.core.clock import ManualClock
from moonpool.core.errors import MoonpoolError
from moonpool.core.message import Request, Response
from moonpool.http.connection import Connection
from moonpool.http.framing import HOP_BY_HOP
from moonpool.http.limits import BodyPolicy, Limits
from moonpool.http.server import Server

SEEDS = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /s?q=1&b=%20 HTTP/1.1\r\nHost: a.example:8080\r\nAccept: */*\r\nAccept: text/html\r\n\r\n",
    b"GET http://a/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer k\r\n"
    b"Content-Type: application/json\r\nContent-Length: 13\r\n\r\n" + b'{"model":"m"}',
    b"POST /s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n"
    b"0\r\nT: u\r\n\r\n",
    b"POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nabcde",
    b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: x\r\nContent-Length: 3\r\n\r\nabc",
    b"DELETE /a HTTP/1.1\r\nHost: [::1]\r\nCookie: a=b\r\nCookie: c=d\r\nx-moonpool-tenant: t\r\n\r\n",
]
WORDS = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
        b"/",
        b"_",
        b"\xff",
        b"0",
        b"-1",
    ),
    *(b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"RTSP/1.0", b"GET ", b"CONNECT ", b"PRI ", b"chunked", b"gzip"),
    *(
        b"Content-Length: 3\r\n",
        b"Content-Length: 200000\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: b\r\n",
    ),
    *(b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b"Expect: 100-continue\r\n"),
    *(b"Connection: host, content-length\r\n", b"A: " + b"a" * 9000 + b"\r\n", b"A: b\r\n" * 120),
    *(b"ffffffff", b"0\r\n\r\n", b"1\r\na\r\n", b"http://", b"99999999999", b"#", b"*", b"?", b"%00"),
]
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
NAME = re.compile(rb"[!#$%&'*+\-.^`|~0-9a-z]+")


class Loop:
    """Collects the tasks a connection starts; `run` drives them, as the real loop would afterwards."""

    def __init__(self) -> None:
        self.ready: list[Coroutine[Any, Any, None]] = []

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> "Task":
        self.ready.append(coroutine)
        return Task(self, coroutine)

    def run(self) -> None:
        while self.ready:
            try:
                self.ready.pop(0).send(None)
            except StopIteration:
                continue
            raise AssertionError("the application waits for nothing, so nothing may be pending")


class Task:
    def __init__(self, loop: Loop, coroutine: Coroutine[Any, Any, None]) -> None:
        self.loop, self.coroutine = loop, coroutine

    def cancel(self) -> None:
        if self.coroutine in self.loop.ready:
            self.loop.ready.remove(self.coroutine)
            self.coroutine.close()


class Transport:
    """What a connection calls, with the same strictness: nothing may be written after the end."""

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.closing = self.ended = False
        self.reading = True
        self.late = False

    def write(self, data: bytes) -> None:
        if self.closing or self.ended:
            self.late = True
        self.out.append(data)

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def close(self) -> None:
        self.closing = True

    abort = close

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.1", 1) if name == "peername" else None


async def application(request: Request) -> Response:
    """Checks what every layer above relies on, and echoes the body, streamed if it came so."""
    assert request.path.startswith("/") or (request.path == "*" and request.method == "OPTIONS"), request
    assert not re.search(r"[\x00-\x20\x7f-\uffff#]", request.path + request.query), request
    for name, value in request.headers.items():
        assert NAME.fullmatch(name), request
        assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value), request
        assert name not in HOP_BY_HOP, request
        assert not name.startswith(b"x-moonpool-"), request
    return Response(200, [], request.body)


def policy(request: Request) -> BodyPolicy:
    return BodyPolicy(100_000, request.path.startswith("/s"))


def render(error: MoonpoolError) -> Response:
    return Response(error.status, [], b"{}")


class Fuzzer:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.loop = Loop()
        self.server = Server(
            application,
            limits=Limits(),
            render_error=render,
            render_stream_error=lambda _: b"",
            body_policy=policy,
            clock=ManualClock(),
        )
        self.answers: dict[int, int] = {}

    def generate(self) -> bytes:
        """One to three valid requests with up to four mutations."""
        rng = self.random
        data = b"".join(rng.choices(SEEDS, k=rng.choice((1, 1, 2, 3))))
        for _ in range(rng.randrange(5)):
            at = rng.randrange(len(data) + 1)
            kind = rng.randrange(6)
            end = at + rng.randrange(1, 20)
            if kind == 0:
                data = data[:at] + rng.choice(WORDS) + data[at:]
            elif kind == 1:
                data = data[:at] + data[end:]
            elif kind == 2:
                data = data[:at] + bytes((rng.randrange(256),)) + data[at + 1 :]
            elif kind == 3:
                data = data[:end] + data[at:]
            elif kind == 4:
                line = data.find(b"\r\n", at) + 2
                data = data[:line] + rng.choice(WORDS) + data[line:]
            else:
                data = data[:at]
        return data

    def pieces(self, data: bytes) -> list[bytes]:
        rng = self.random
        if rng.randrange(2) or len(data) < 2:
            return [data]
        cuts = sorted(rng.sample(range(1, len(data)), min(len(data) - 1, rng.choice((1, 2, 5)))))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]

    def run(self, data: bytes, pieces: list[bytes]) -> None:
        transport = Transport()
        connection = Connection(self.server, self.loop)  # type: ignore[arg-type]
        connection.connection_made(transport)  # type: ignore[arg-type]
        for piece in pieces:
            if transport.closing:
                break
            connection.data_received(piece)
            self.loop.run()
        statuses = [int(code) for code in STATUS.findall(b"".join(transport.out))]
        for status in statuses:
            self.answers[status] = self.answers.get(status, 0) + 1
            assert status < 500, status
        assert not transport.late, "written after the end"
        waits = not connection._parser.clean
        assert statuses or waits or transport.closing or not data.strip(b"\r\n"), "neither answered nor ended"
        connection.connection_lost(None)
        assert not self.loop.ready
        assert self.server.connections == self.server.active == 0

    def one(self) -> None:
        data = self.generate()
        pieces = self.pieces(data)
        try:
            self.run(data, pieces)
        except BaseException:
            print("input:", pieces, file=sys.stderr)
            raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    fuzzer = Fuzzer(arguments.seed)
    started = time.monotonic()
    for _ in range(arguments.inputs):
        fuzzer.one()
    took = time.monotonic() - started
    print(f"{arguments.inputs} inputs in {took:.1f} s ({arguments.inputs / took:.0f}/s), answers:")
    print(" ".join(f"{status}: {count}" for status, count in sorted(fuzzer.answers.items())))


if __name__ == "__main__":
    main()
