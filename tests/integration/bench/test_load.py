"""The load generator and the stub measure what they say, on real sockets."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from bench.load import closed_loop, open_loop
from bench.machine import free_port, wait_for_port
from bench.requests import Site, chat, stream_model
from bench.streams import Streams


@pytest.fixture(scope="module")
def stub() -> Iterator[Site]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.stub", str(port)])
    wait_for_port(port)
    yield Site(port)
    process.terminate()
    process.wait(10)


class Stalling:
    """Answers one connection's requests at once, but stalls for `stall` seconds before one of them."""

    def __init__(self, stall: float, before: int, status: int = 200) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.site = Site(self._listener.getsockname()[1])
        self._stall, self._before, self._status = stall, before, status
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        answered = 0
        while connection.recv(65536):
            answered += 1
            if answered == self._before:
                time.sleep(self._stall)
            connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % self._status)
        connection.close()

    def __enter__(self) -> Site:
        return self.site

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()


def test_the_closed_loop_keeps_going(stub: Site) -> None:
    result = closed_loop(stub, chat(), connections=4, seconds=0.3)

    assert result.failed == 0
    assert result.answered == len(result.latencies) > 50
    assert result.rate == pytest.approx(result.answered / result.seconds)


def test_the_open_loop_keeps_its_rate(stub: Site) -> None:
    result = open_loop(stub, chat(), rate=200, connections=8, seconds=0.5)

    assert result.failed == 0
    assert result.answered in range(99, 102)


def test_a_stall_is_charged_to_every_request_that_was_due_meanwhile() -> None:
    with Stalling(0.3, before=10) as site:
        result = open_loop(site, chat(), rate=100, connections=1, seconds=0.6)

    assert result.answered >= 59
    late = sum(1 for latency in result.latencies if latency > 0.05)
    assert late >= 20, "a closed loop would have noticed one"
    assert result.quantile(1.0) >= 0.29


def test_other_answers_than_200_are_failures() -> None:
    with Stalling(0.0, before=0, status=503) as site:
        result = open_loop(site, chat(), rate=100, connections=1, seconds=0.1)

    assert result.answered == 0
    assert result.failed >= 9


def test_paced_streams_come_event_by_event(stub: Site) -> None:
    with Streams(stub, chat(stream_model(50), stream=True), 5) as streams:
        count = streams.read(0.5)

    assert 5 * 5 < count.events <= 5 * 12
    assert count.events / count.reads < 1.5


def test_a_flood_is_bounded_by_its_reader(stub: Site) -> None:
    with Streams(stub, chat(stream_model(0), stream=True), 2) as streams:
        first = streams.read(0.2)
        time.sleep(0.2)  # nobody reads: the stub must stop writing, and go on after
        second = streams.read(0.2)

    assert first.events > 100
    assert second.events > 100


def test_a_refused_stream_is_an_error() -> None:
    with Stalling(0.0, before=0, status=503) as site, pytest.raises(ConnectionError, match="503"):
        Streams(site, chat(stream=True), 1).__enter__()
