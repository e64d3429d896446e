"""Our own load generator: raw sockets, every answer checked.

`open_loop` sends at fixed points in time whether or not earlier answers have come, and counts latency from
the point at which a request was due: a server that stalls is charged for every request that had to
wait (no coordinated omission). `closed_loop` keeps every connection busy: the most a server can do.

A plain loop around `select`, whose time-out has microseconds where asyncio's and uvloop's timers have
milliseconds: at thousands of requests a second that is the difference between a measurement and an artefact.
"""

import select
import socket
import time
from collections import deque
from dataclasses import dataclass, field

from bench.requests import Site

TIMEOUT = 10.0
"""Seconds without any answer after which a run is given up."""


@dataclass
class Result:
    """`latencies` are in seconds. `failed` counts answers other than 200 and connections that broke."""

    seconds: float = 0.0
    answered: int = 0
    failed: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.answered / self.seconds if self.seconds else 0.0

    def quantile(self, share: float) -> float:
        """Seconds; 0 when nothing was answered."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Connection:
    """One keep-alive connection with at most one request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""
        self.due = 0.0

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.socket.sendall(request)

    def receive(self) -> int | None:
        """The status once the whole answer is there, None before that. 0: the connection broke."""
        data = self.socket.recv(65536)
        if not data:
            return 0
        self._held += data
        head, found, body = self._held.partition(b"\r\n\r\n")
        if not found:
            return None
        head = head.lower()
        _, sized, length = head.partition(b"\r\ncontent-length:")
        complete = len(body) >= int(length.split(b"\r\n", 1)[0]) if sized else body.endswith(b"0\r\n\r\n")
        if not complete:
            return None
        self._held = b""
        return int(head[9:12])


class Pool:
    """All connections of a run, the idle ones among them, and the result so far."""

    def __init__(self, site: Site, connections: int) -> None:
        self._port = site.port
        self.idle = deque(Connection(site.port) for _ in range(connections))
        self.busy: list[Connection] = []
        self.result = Result()

    def send(self, request: bytes, due: float) -> None:
        connection = self.idle.popleft()
        connection.send(request, due)
        self.busy.append(connection)

    def collect(self, wait: float) -> None:
        """Take the answers that are there, or come within `wait` seconds."""
        for connection in select.select(self.busy, [], [], wait)[0]:
            status = connection.receive()
            if status is None:
                continue
            self.busy.remove(connection)
            self.result.answered += status == 200
            self.result.failed += status != 200
            self.result.latencies.append(time.perf_counter() - connection.due)
            if status == 0:
                connection.socket.close()
                connection = Connection(self._port)
            self.idle.append(connection)

    def close(self) -> None:
        for connection in [*self.idle, *self.busy]:
            connection.socket.close()


def closed_loop(site: Site, body: bytes, *, connections: int, seconds: float) -> Result:
    pool, request = Pool(site, connections), site.request(body)
    started = time.perf_counter()
    try:
        while (now := time.perf_counter()) < started + seconds:
            while pool.idle:
                pool.send(request, now)
            pool.collect(TIMEOUT)
        pool.result.seconds = time.perf_counter() - started
    finally:
        pool.close()
    return pool.result


def open_loop(site: Site, body: bytes, *, rate: float, connections: int, seconds: float) -> Result:
    """Raises TimeoutError when answers stop coming."""
    pool, request = Pool(site, connections), site.request(body)
    started = time.perf_counter()
    due, last = started, started + seconds
    try:
        while due < last or pool.busy:
            now = time.perf_counter()
            while due <= now and due < last and pool.idle:
                pool.send(request, due)
                due += 1.0 / rate
            if now > last + TIMEOUT:
                raise TimeoutError(
                    f"{len(pool.busy)} answers are missing {TIMEOUT:g} s after the last request"
                )
            # With every connection busy only an answer lets the next one go: its wait is counted.
            wait = max(0.0, due - time.perf_counter()) if due < last and pool.idle else 1.0
            pool.collect(wait)
        pool.result.seconds = time.perf_counter() - started
    finally:
        pool.close()
    return pool.result
