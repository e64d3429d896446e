"""The wire against a transport that only notes what is written."""

import asyncio
import time

import pytest

from moonpool.adapters.redis.wire import MOST_WAITING, Refused, Wire
from moonpool.core.errors import Unavailable


class Transport:
    """Of asyncio.Transport what the wire uses."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
async def lost() -> list[str]:
    return []


@pytest.fixture
async def transport() -> Transport:
    return Transport()


@pytest.fixture
async def wire(lost: list[str], transport: Transport) -> Wire:
    wire = Wire(0.03, lambda wire, reason: lost.append(reason))
    wire.connection_made(transport)  # type: ignore[arg-type]
    return wire


async def test_answers_come_in_order(wire: Wire, transport: Transport) -> None:
    one, two, three = wire.send("GET", "a"), wire.send("GET", b"b"), wire.send("INCRBY", "n", 2)
    assert transport.written[0] == b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"
    wire.data_received(b"$1\r\nx\r\n$-1\r")
    assert one.result() == b"x"
    assert not two.done()
    wire.data_received(b"\n:7\r\n")
    assert (two.result(), three.result()) == (None, 7)


async def test_an_error_is_told_to_who_asked(wire: Wire) -> None:
    one, two = wire.send("SET"), wire.send("PING")
    wire.data_received(b"-OOM no memory\r\n+PONG\r\n")
    assert isinstance(one.exception(), Refused)
    assert two.result() == b"PONG"


async def test_an_answer_that_nobody_wants_any_more_is_passed_over(wire: Wire) -> None:
    one, two = wire.send("GET", "a"), wire.send("GET", "b")
    one.cancel()
    wire.data_received(b"$1\r\na\r\n$1\r\nb\r\n")
    assert two.result() == b"b"


async def test_who_does_not_answer_in_time_is_dropped(wire: Wire, transport: Transport) -> None:
    answers = [wire.send("PING"), wire.send("PING")]
    async with asyncio.timeout(1):
        await asyncio.wait(answers)
    for answer in answers:
        assert isinstance(answer.exception(), Unavailable)
    assert transport.aborted
    with pytest.raises(Unavailable):
        wire.send("PING")


async def test_who_answers_slowly_but_steadily_is_late_all_the_same(wire: Wire) -> None:
    """Every answer is older than the time-out, though never the same one is the oldest for long."""
    answers = [wire.send("PING") for _ in range(1000)]
    async with asyncio.timeout(2):
        while not wire.lost:
            wire.data_received(b"+PONG\r\n")
            await asyncio.sleep(0.005)
    assert sum(answer.exception() is not None for answer in answers) > 900


async def test_a_loop_that_was_held_up_blames_nobody(wire: Wire) -> None:
    answer = wire.send("PING")
    await asyncio.sleep(0)
    time.sleep(0.1)
    await asyncio.sleep(0)
    wire.data_received(b"+PONG\r\n")
    assert answer.result() == b"PONG"


async def test_an_end_is_told_once_to_all(wire: Wire, lost: list[str]) -> None:
    answer = wire.send("PING")
    wire.connection_lost(ConnectionResetError("reset by peer"))
    assert isinstance(answer.exception(), Unavailable)
    assert lost == ["reset by peer"]
    assert wire.lost == "reset by peer"


@pytest.mark.parametrize("noise", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n+OK\r\n"])
async def test_who_speaks_something_else_is_dropped(wire: Wire, transport: Transport, noise: bytes) -> None:
    answer = wire.send("PING")
    wire.data_received(noise)
    assert transport.aborted
    assert answer.done()
    answer.exception()


async def test_what_waits_is_bounded(wire: Wire) -> None:
    waiting = [wire.send("PING") for _ in range(MOST_WAITING)]
    with pytest.raises(Unavailable):
        wire.send("PING")
    wire.drop("enough")
    assert all(isinstance(answer.exception(), Unavailable) for answer in waiting)
