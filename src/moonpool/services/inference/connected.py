"""Answers that stop when the client leaves: whole ones and streams, as ASGI applications.

Litestar does not watch the connection of a handler that computes. Here the work is a task that is
cancelled at the disconnect, and has given back its slot when the application returns.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from litestar.types import Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from moonpool.asgi.caller import answer
from moonpool.core.errors import MoonpoolError
from moonpool.core.message import Response
from moonpool.openai.errors import render_error, render_stream_error

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Whole:
    """`work` makes the body of a 200 answer of JSON."""

    def __init__(self, work: Callable[[], Awaitable[bytes]]) -> None:
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _while_connected(receive, self._answer(send))

    async def _answer(self, send: Send) -> None:
        try:
            body = await self._work()
        except MoonpoolError as error:
            await answer(render_error(error), send)
        else:
            await answer(Response(200, [(b"content-type", b"application/json")], body), send)


class Events:
    """A failure before the first event is an error answer; a later one is the stream's last event."""

    def __init__(self, events: Callable[[], AsyncGenerator[bytes, None]], log: FilteringBoundLogger) -> None:
        self._events = events
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _while_connected(receive, self._answer(send))

    async def _answer(self, send: Send) -> None:
        try:
            events = self._events()
        except MoonpoolError as error:
            await answer(render_error(error), send)
            return
        async with aclosing(events):
            try:
                first = await anext(events)
            except MoonpoolError as error:
                await answer(render_error(error), send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
            await _send(send, first)
            try:
                async for event in events:
                    await _send(send, event)
            except MoonpoolError as error:
                await _send(send, render_stream_error(error))
            except Exception as error:  # noqa: BLE001 - the head is sent: only the stream can tell now
                self._log.error("a stream broke", exc_info=error)
                await _send(send, render_stream_error(error))
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _while_connected(receive: Receive, work: Awaitable[None]) -> None:
    """Raises what `work` raises; returns when it was cancelled because the client left."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
    if not working.cancelled():
        working.result()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
