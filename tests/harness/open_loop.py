"""An open loop of strict clients: requests arrive when they arrive, whatever became of those before, and
every one that is not a whole, right answer is a fault. Raw HTTP/1.1, nothing is ever repeated."""

import asyncio
import json
import random
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from chaos.faulty_answers import text_of
from harness.exchanges import Ending, judge
from harness.platform import Platform

PATIENCE = 120.0
SMALL = 2048
"""Bytes that a slow reader takes at once, and its buffers hold."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Kind:
    """`rate` requests a second, the `n`-th of which is `make(n)`; `prompt(n)` of a streamed chat tells which
    text must come. `kept`: on connections that are kept; `slow`: rests for so many seconds between reads."""

    name: str
    rate: float
    make: Callable[[int], bytes]
    prompt: Callable[[int], str] | None = None
    kept: bool = False
    slow: float = 0.0


@dataclass(frozen=True)
class Done:
    kind: str
    began: float
    ended: float
    release: str
    fault: str
    """"" for a whole, right answer."""


@dataclass
class Tally:
    """What all clients have seen. Times are of the monotonic clock."""

    done: list[Done] = field(default_factory=list)

    @property
    def faults(self) -> list[Done]:
        return [one for one in self.done if one.fault]

    def by_release(
        self, kinds: Iterable[str], since: float = 0.0, until: float = float("inf")
    ) -> Counter[str]:
        """Who answered what began in that time."""
        wanted = set(kinds)
        return Counter(d.release for d in self.done if d.kind in wanted and since <= d.began < until)

    def counts(self) -> dict[str, int]:
        return dict(Counter(one.kind for one in self.done))


class OpenLoop:
    """Runs from its making until `stop`."""

    def __init__(self, platform: Platform, kinds: Iterable[Kind], seed: int = 1) -> None:
        address = urlsplit(platform.url)
        self._where = (address.hostname or "", address.port or 0)
        self._random = random.Random(seed)
        self._resting: deque[Streams] = deque()
        self._over = asyncio.Event()
        self._asked: set[asyncio.Task[None]] = set()
        self.tally = Tally()
        self.most = 0
        """Most requests that were under way at a time."""
        self._arrivals = [asyncio.create_task(self._arrive(kind)) for kind in kinds]

    async def stop(self) -> Tally:
        """No more arrivals; what is under way is waited for."""
        self._over.set()
        await asyncio.gather(*self._arrivals)
        await asyncio.gather(*self._asked)
        for _, writer in self._resting:
            writer.close()
        return self.tally

    async def _arrive(self, kind: Kind) -> None:
        due, number = time.monotonic(), 0
        while not self._over.is_set():
            due += self._random.expovariate(kind.rate)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._ask(kind, number))
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)
            self.most = max(self.most, len(self._asked))
            number += 1

    async def _ask(self, kind: Kind, number: int) -> None:
        began, release, fault, fresh = time.monotonic(), "", "", True
        streams: Streams | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                if kind.kept and self._resting:
                    streams, fresh = self._resting.popleft(), False
                else:
                    streams = await self._connect(kind)
                status, headers, body = await self._exchange(streams, kind, kind.make(number))
            release = headers.get("x-moonpool-release", "")
            fault = _fault(kind, number, status, headers, body)
            if kind.kept and not fault and headers.get("connection", "").lower() != "close":
                self._resting.append(streams)
                streams = None
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            fault = f"{error!r} on a {'fresh' if fresh else 'kept'} connection"
        finally:
            if streams is not None:
                streams[1].close()
        told = f"{time.time():.3f} {fault}" if fault else ""
        self.tally.done.append(Done(kind.name, began, time.monotonic(), release, told))

    async def _connect(self, kind: Kind) -> Streams:
        if not kind.slow:
            return await asyncio.open_connection(*self._where)
        small = socket.socket()
        small.setblocking(False)
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        await asyncio.get_running_loop().sock_connect(small, self._where)
        return await asyncio.open_connection(sock=small, limit=SMALL)

    async def _exchange(
        self, streams: Streams, kind: Kind, request: bytes
    ) -> tuple[int, httpx.Headers, bytes]:
        reader, writer = streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        start, *lines = head.rstrip().split("\r\n")
        headers = httpx.Headers([tuple(line.split(": ", 1)) for line in lines])  # type: ignore[misc]
        body = bytearray()
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                body += await self._read(reader, size, kind)
                await reader.readexactly(2)
            await reader.readexactly(2)
        else:
            body += await self._read(reader, int(headers.get("content-length", "0")), kind)
        return int(start.split(" ", 2)[1]), headers, bytes(body)

    async def _read(self, reader: asyncio.StreamReader, size: int, kind: Kind) -> bytes:
        if not kind.slow:
            return await reader.readexactly(size)
        taken = bytearray()
        while len(taken) < size:
            taken += await reader.readexactly(min(SMALL, size - len(taken)))
            await asyncio.sleep(kind.slow)
        return bytes(taken)


def _fault(kind: Kind, number: int, status: int, headers: httpx.Headers, body: bytes) -> str:
    if status != 200:
        return f"{status} {body[:300]!r}"
    if kind.prompt is None:
        return "" if body else "an empty body"
    seen = judge(status, headers, body, "", 0.0)
    if seen.ending is not Ending.ANSWERED:
        return repr(seen)
    return "" if seen.text == text_of(kind.prompt(number)) else f"another text: {seen.text[-80:]!r} {seen!r}"


def getting(platform: Platform, path: str) -> Callable[[int], bytes]:
    lines = [f"GET {path} HTTP/1.1", "host: localhost", f"authorization: Bearer {platform.key}", "", ""]
    request = "\r\n".join(lines).encode()
    return lambda number: request


def posting(platform: Platform, path: str, body: Callable[[int], object]) -> Callable[[int], bytes]:
    def make(number: int) -> bytes:
        content = json.dumps(body(number)).encode()
        head = [
            f"POST {path} HTTP/1.1",
            "host: localhost",
            f"authorization: Bearer {platform.key}",
            "content-type: application/json",
            "cache-control: no-store",
            f"content-length: {len(content)}",
        ]
        return "\r\n".join([*head, "", ""]).encode() + content

    return make


def streaming(platform: Platform, model: str, prompt: Callable[[int], str]) -> Callable[[int], bytes]:
    def body(number: int) -> object:
        return {
            "model": model,
            "messages": [{"role": "user", "content": prompt(number)}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    return posting(platform, "/v1/chat/completions", body)
