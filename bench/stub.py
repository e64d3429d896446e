"""The upstream of every server under test: an OpenAI-compatible endpoint that costs next to nothing.

    python -m bench.stub PORT

Plain requests get one fixed answer. A request for model `events-MS` gets a stream of events without end, one
every MS milliseconds (0: as fast as they are read), each its own write, until the client leaves. Streams
start at different phases, so that the events of many do not arrive together.
"""

import asyncio
import random
import re
import sys
from typing import cast

import httptools
import uvloop

from bench.requests import answer, event

MODEL = re.compile(rb'"model"\s*:\s*"events-([0-9.]+)"')
_ANSWER = answer()
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_ANSWER)
RESPONSE += _ANSWER
STREAM = (  # the last header is nginx's own wish, and harmless elsewhere
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"X-Accel-Buffering: no\r\n\r\n"
)
_EVENT = event()
CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)


class Connection(asyncio.Protocol):
    """One connection; the next request is read when it comes, pipelined ones in order."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own, and no subclass
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._timer: asyncio.Handle | None = None
        self._paused = False

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        match = MODEL.search(body)
        if match is None:
            self._transport.write(RESPONSE)
            return
        self._transport.write(STREAM)
        self._interval = float(match[1]) / 1e3
        self._due = self._loop.time() + self._interval * random.random()
        self._arrange()

    def _send(self) -> None:
        if not self._paused:
            self._transport.write(CHUNK)
        self._due += self._interval
        self._arrange()

    def _arrange(self) -> None:
        if self._interval:
            self._timer = self._loop.call_at(self._due, self._send)
        elif not self._paused:
            self._timer = self._loop.call_soon(self._send)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if not self._interval and self._timer is not None:
            self._timer.cancel()  # one that was under way before the pause must not go on beside the new one
            self._arrange()

    def connection_lost(self, exc: Exception | None) -> None:
        self._paused = True
        if self._timer is not None:
            self._timer.cancel()


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
