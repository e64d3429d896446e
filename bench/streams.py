"""Many open streams at once: opens them, reads them, counts their events."""

import select
import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from bench.requests import Site

OPENING = 30.0
"""Seconds within which all streams must have begun."""


@dataclass
class Count:
    """`reads` is how many pieces the events came in: as many as events if each is relayed by itself."""

    seconds: float
    events: int
    reads: int


class Streams:
    """`with Streams(…) as streams: streams.read(5.0)`. Raises ConnectionError when one is refused or cut."""

    def __init__(self, site: Site, body: bytes, number: int) -> None:
        self._site = site
        self._request = site.request(body)
        self._number = number
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}

    def __enter__(self) -> Self:
        try:
            self._open()
            self._await_first_events()
        except BaseException:
            self._close()
            raise
        return self

    def _open(self) -> None:
        for _ in range(self._number):
            connection = socket.create_connection(("127.0.0.1", self._site.port), OPENING)
            self._sockets[connection.fileno()] = connection
            connection.sendall(self._request)
            self._poll.register(connection.fileno(), select.EPOLLIN)

    def _await_first_events(self) -> None:
        waiting, end = dict.fromkeys(self._sockets, b""), time.perf_counter() + OPENING
        while waiting:
            if time.perf_counter() > end:
                raise TimeoutError(f"{len(waiting)} of {self._number} streams have not begun")
            for number, _ in self._poll.poll(1.0):
                if number not in waiting:
                    self._sockets[number].recv(65536)
                    continue
                waiting[number] += self._sockets[number].recv(65536)
                if waiting[number][:1] and not waiting[number].startswith(
                    b"HTTP/1.1 200"[: len(waiting[number])]
                ):
                    raise ConnectionError(f"refused: {waiting[number][:300]!r}")
                if b"data: " in waiting[number]:
                    del waiting[number]

    def read(self, seconds: float) -> Count:
        started = time.perf_counter()
        events = reads = 0
        while (left := started + seconds - time.perf_counter()) > 0:
            for number, _ in self._poll.poll(min(left, 1.0)):
                data = self._sockets[number].recv(65536)
                if not data:
                    raise ConnectionError("a stream was cut")
                events += data.count(b"data: ")
                reads += 1
        return Count(time.perf_counter() - started, events, reads)

    def _close(self) -> None:
        for connection in self._sockets.values():
            connection.close()
        self._poll.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
