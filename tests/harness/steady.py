"""Load that never stops: raw HTTP/1.1 clients that count everything that is not a whole, good answer."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence


class Steady:
    """`kept` clients keep their connection until they are told to close it, `fresh` ones open one a request;
    each rests for `pause` seconds between requests."""

    def __init__(
        self, host: str, port: int, requests: Sequence[bytes], *, kept: int, fresh: int, pause: float
    ) -> None:
        self._where = (host, port)
        self._requests = requests
        self._pause = pause
        self._over = False
        self.answered = 0
        self.faults: Counter[str] = Counter()
        self.first: list[str] = []
        self._tasks = [
            asyncio.create_task(self._client(number, keep=number < kept)) for number in range(kept + fresh)
        ]

    async def stop(self) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)

    async def more(self, count: int) -> None:
        """Until so many more answers have come."""
        goal = self.answered + count
        async with asyncio.timeout(30):
            while self.answered < goal:
                await asyncio.sleep(0.01)

    async def _client(self, number: int, *, keep: bool) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        turn = number
        while not self._over:
            turn += 1
            reused = streams is not None
            try:
                if streams is None:
                    streams = await asyncio.open_connection(*self._where)
                status, close = await self._ask(*streams, self._requests[turn % len(self._requests)])
            except (OSError, asyncio.IncompleteReadError) as error:
                self._fault(f"{type(error).__name__} on a {'kept' if reused else 'fresh'} connection")
                status, close = 0, True
            else:
                self.answered += 1
                if status >= 400:
                    self._fault(str(status))
            if streams is not None and (close or not keep):
                streams[1].close()
                streams = None
            await asyncio.sleep(self._pause)
        if streams is not None:
            streams[1].close()

    def _fault(self, what: str) -> None:
        self.faults[what] += 1
        self.first.append(f"{time.time():.3f} {what}")

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> tuple[int, bool]:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        return int(head.split(b" ", 2)[1]), b"connection: close" in head


def get(path: str, key: str = "") -> bytes:
    fields = [f"GET {path} HTTP/1.1", "host: localhost"]
    if key:
        fields.append(f"authorization: Bearer {key}")
    return "\r\n".join([*fields, "", ""]).encode()
