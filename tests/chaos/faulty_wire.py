"""The injector's side of a connection: HTTP/1.1 by hand, since no framework lets one do it wrong."""

import asyncio
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any

REASONS = {429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Unavailable"}
ARRIVED = 0.02
"""Seconds that what was sent has to reach the peer's program before an end that may overtake it."""

FOREVER = 3600.0
"""Seconds; no test lasts as long."""


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        value = json.loads(self.body or b"{}")
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return value


class Gone(Exception):
    """The connection is over, by our doing or the peer's."""


class Connection:
    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.port = port
        self.busy = False
        self._reader = reader
        self._writer = writer

    async def request(self) -> Request | None:
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            line, *fields = head.decode("latin-1").split("\r\n")[:-2]
            self.busy = True
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)
            }
            method, target, _ = line.split(" ")
            return Request(method, target, headers, await self._body(headers))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
            return None

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return await self._reader.readexactly(int(headers.get("content-length", 0)))
        parts = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            parts.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readuntil(b"\r\n")
        return b"".join(parts)

    async def write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            raise Gone from None

    async def head(self, status: int, *fields: tuple[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'OK')}", *(f"{n}: {v}" for n, v in fields), "", ""]
        await self.write("\r\n".join(lines).encode())

    async def reply(self, status: int, body: bytes, *fields: tuple[str, str]) -> None:
        length = ("content-length", str(len(body)))
        await self.head(status, ("content-type", "application/json"), length, *fields)
        await self.write(body)

    async def wait(self, seconds: float) -> None:
        """Gone as soon as the peer leaves."""
        try:
            if await asyncio.wait_for(self._reader.read(1), seconds) == b"":
                raise Gone
        except ConnectionError:
            raise Gone from None
        except TimeoutError:
            return

    async def until(self, event: asyncio.Event) -> None:
        """Gone as soon as the peer leaves."""
        left, happened = asyncio.create_task(self.wait(FOREVER)), asyncio.create_task(event.wait())
        await asyncio.wait((left, happened), return_when=asyncio.FIRST_COMPLETED)
        for task in (left, happened):
            task.cancel()
        await asyncio.wait((left, happened))  # a reader has one who waits for it at a time
        if not left.cancelled():
            left.result()

    async def reset(self) -> None:
        """RST instead of FIN."""
        await asyncio.sleep(ARRIVED)
        self.kill()
        raise Gone

    def kill(self) -> None:
        sock = self._writer.get_extra_info("socket")
        if sock is not None and not self._writer.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()
