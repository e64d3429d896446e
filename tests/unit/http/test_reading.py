"""Between push and pull: whole bodies, iteration with back-pressure, and iterators as streams."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from moonpool.core.body import Outcome, Stream
from moonpool.core.errors import ClientGone, InternalError, PayloadTooLarge, StreamTruncated
from moonpool.http.reading import from_iterator, iterate, read


class Producer:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.stream = Stream(self)

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def cancel(self) -> None:
        self.calls.append("cancel")


async def test_read_bytes_and_streams() -> None:
    assert await read(b"abc", 3) == b"abc"
    with pytest.raises(PayloadTooLarge):
        await read(b"abc", 2)
    stream = Stream()
    stream.feed(b"ab")
    stream.feed(b"c")
    stream.finish()
    assert await read(stream, 3) == b"abc"


async def test_read_stops_at_the_limit() -> None:
    producer = Producer()
    producer.stream.feed(b"abcd")
    with pytest.raises(PayloadTooLarge):
        await read(producer.stream, 3)
    assert producer.calls == ["cancel"]


async def test_read_of_what_broke() -> None:
    stream = Stream()
    stream.feed(b"a")
    stream.fail(StreamTruncated("x"))
    with pytest.raises(StreamTruncated):
        await read(stream, 3)
    stream = Stream()
    stream.cancel()
    with pytest.raises(ClientGone):
        await read(stream, 3)


async def test_cancelled_read_cancels_the_stream() -> None:
    producer = Producer()
    task = asyncio.create_task(read(producer.stream, 3))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert producer.stream.outcome is Outcome.CANCELLED


async def test_iterate_pauses_and_resumes() -> None:
    producer = Producer()
    chunks = iterate(producer.stream)
    first = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)
    for _ in range(5):
        producer.stream.feed(b"x" * 32 * 1024)
    assert producer.calls == ["pause"]
    total = len(await first)
    producer.stream.finish()
    async for chunk in chunks:
        total += len(chunk)
    assert total == 5 * 32 * 1024
    assert producer.stream.outcome is Outcome.COMPLETED


async def test_leaving_an_iteration_cancels() -> None:
    producer = Producer()
    producer.stream.feed(b"a")
    chunks = iterate(producer.stream)
    assert await anext(chunks) == b"a"
    await chunks.aclose()  # type: ignore[attr-defined]
    assert producer.calls == ["cancel"]


async def test_iteration_gives_what_came_before_the_break() -> None:
    stream = Stream()
    stream.feed(b"a")
    stream.fail(StreamTruncated("x"))
    chunks = iterate(stream)
    assert await anext(chunks) == b"a"
    with pytest.raises(StreamTruncated):
        await anext(chunks)


async def test_from_iterator_there_and_back() -> None:
    async def source() -> AsyncIterator[bytes]:
        for n in range(100):
            yield b"%d," % n

    assert await read(from_iterator(source()), 1000) == b"".join(b"%d," % n for n in range(100))


async def test_from_iterator_honours_pause_and_cancel() -> None:
    given = 0
    closed = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        nonlocal given
        try:
            while True:
                given += 1
                yield b"x" * 1024
        finally:
            closed.set()

    stream = from_iterator(source())
    for _ in range(10):
        await asyncio.sleep(0)
    assert given <= 65  # what a stream holds for a consumer that has not come
    stream.cancel()
    await asyncio.wait_for(closed.wait(), 1)


async def test_from_iterator_that_fails() -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"a"
        raise ZeroDivisionError

    with pytest.raises(InternalError):
        await read(from_iterator(source()), 10)
