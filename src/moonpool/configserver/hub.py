"""Tells watchers of every change, in order, each at its own pace.

A watcher that does not keep up is let go: it connects again and gets everything at once.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec

from moonpool.contracts.documents.wire import BEAT, Beat, Event, Snapshot
from moonpool.http.sse import encode

BACKLOG = 256
"""Events that may wait for one watcher."""
_json = msgspec.json.Encoder()


class Hub:
    """`snapshot` is what new watchers begin with."""

    def __init__(self, *, beat: float = BEAT) -> None:
        self.snapshot = Snapshot()
        self._beat = beat
        self._watchers: set[asyncio.Queue[bytes | None]] = set()
        self._closed = False

    @property
    def watchers(self) -> int:
        return len(self._watchers)

    @property
    def closed(self) -> bool:
        return self._closed

    def publish(self, snapshot: Snapshot, event: Event) -> None:
        """`event` is what has led to `snapshot`."""
        self.snapshot = snapshot
        data = frame(event)
        for queue in list(self._watchers):
            try:
                queue.put_nowait(data)
            except asyncio.QueueFull:
                self._watchers.discard(queue)
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)

    def close(self) -> None:
        """Every watch ends: the watchers find the successor."""
        self._closed = True
        for queue in self._watchers:
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(None)

    async def watch(self, since: str) -> AsyncIterator[bytes]:
        """Server-sent events, beginning with everything unless `since` (EPOCH:SEQUENCE) is up to date."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(BACKLOG)
        self._watchers.add(queue)
        try:
            now = self.snapshot
            fresh = not now.stale and since == f"{now.epoch}:{now.sequence}"
            yield frame(Beat(epoch=now.epoch, sequence=now.sequence) if fresh else now)
            while not self._closed:
                try:
                    async with asyncio.timeout(self._beat):
                        data = await queue.get()
                except TimeoutError:
                    data = frame(Beat(epoch=self.snapshot.epoch, sequence=self.snapshot.sequence))
                if data is None:
                    return
                yield data
        finally:
            self._watchers.discard(queue)


def frame(event: Event) -> bytes:
    return encode(_json.encode(event).decode())
