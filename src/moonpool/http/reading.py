"""Between push Streams and code that pulls: read whole, iterate, and feed from an iterator."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from moonpool.core.body import BUFFER_LIMIT, Stream
from moonpool.core.errors import ClientGone, InternalError, MoonpoolError, PayloadTooLarge
from moonpool.core.message import Body


class _Collector:
    """A sink that keeps everything up to a limit."""

    def __init__(self, stream: Stream, limit: int) -> None:
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._stream = stream
        self._limit = limit
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > self._limit:
            self._stream.cancel()
            self._settle(PayloadTooLarge(f"the body may have at most {self._limit} bytes"))

    def close(self) -> None:
        if not self.done.done():
            self.done.set_result(bytes(self._data))

    def abort(self, error: Exception) -> None:
        self._settle(error)

    def _settle(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def read(body: Body, limit: int) -> bytes:
    """The whole of `body`. Raises PayloadTooLarge beyond `limit` bytes, or what broke the stream."""
    if isinstance(body, bytes):
        if len(body) > limit:
            raise PayloadTooLarge(f"the body may have at most {limit} bytes")
        return body
    collector = _Collector(body, limit)
    body.connect(collector)
    if body.error is None and body.outcome is not None and not collector.done.done():
        raise ClientGone("the body was cancelled before it was read")
    try:
        return await collector.done
    except asyncio.CancelledError:
        body.cancel()
        raise


class _Buffer:
    """A sink that holds what the iterator has not taken, and pauses the stream beyond a limit."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._ended = False
        self._error: Exception | None = None
        self._ready = asyncio.Event()

    def write(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        self._ready.set()
        if self._size >= BUFFER_LIMIT and not self._paused:
            self._paused = True
            self._stream.pause()

    def close(self) -> None:
        self._ended = True
        self._ready.set()

    def abort(self, error: Exception) -> None:
        self._error = error
        self.close()

    async def take(self) -> bytes | None:
        """The next chunk, None at the end. Raises what broke the stream, after what came before."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            self._ready.clear()
            await self._ready.wait()
        data = self._chunks.popleft()
        self._size -= len(data)
        if self._paused and self._size < BUFFER_LIMIT // 2:
            self._paused = False
            self._stream.resume()
        return data


async def iterate(body: Body) -> AsyncIterator[bytes]:
    """The chunks of `body` as they come. Leaving the loop early (aclose) cancels the stream."""
    if isinstance(body, bytes):
        if body:
            yield body
        return
    buffer = _Buffer(body)
    body.connect(buffer)
    try:
        while (data := await buffer.take()) is not None:
            yield data
    finally:
        body.cancel()


class _Feeder:
    """A task that feeds a stream from an iterator, and that stream's producer."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self._flow = asyncio.Event()
        self._flow.set()
        self.stream = Stream(self)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def pause(self) -> None:
        self._flow.clear()

    def resume(self) -> None:
        self._flow.set()

    def cancel(self) -> None:
        if self._task is not asyncio.current_task():
            self._task.cancel()

    async def _run(self) -> None:
        try:
            async for data in self._source:
                self.stream.feed(data)
                if self.stream.outcome is not None:
                    break
                await self._flow.wait()
        except MoonpoolError as error:
            self.stream.fail(error)
        except asyncio.CancelledError:
            self.stream.fail(ClientGone("the body's source was cancelled"))
            raise
        except Exception as error:  # noqa: BLE001 - the task's boundary: the consumer must hear of it
            failure = InternalError("the body's source failed")
            failure.__cause__ = error
            self.stream.fail(failure)
        else:
            self.stream.finish()
        finally:
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()


def from_iterator(source: AsyncIterator[bytes]) -> Stream:
    """A stream of what `source` yields; cancelling it cancels and closes the source."""
    return _Feeder(source).stream
