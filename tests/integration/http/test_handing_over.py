"""A server that drains beside its successor: nobody who is at work on a connection notices."""

import asyncio
import contextlib
from typing import Any

from moonpool.core.message import Request, Response

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def app(request: Request) -> Response:
    return Response(200, [], b"here")


async def test_who_uses_a_resting_connection_is_answered_and_told_to_close(serve: Any) -> None:
    edge = await serve(app)
    reader, writer = await edge.open()
    _, fresh = await edge.open()
    writer.write(GET)
    assert b"connection: close" not in (await reader.readuntil(b"here")).lower()
    draining = asyncio.create_task(edge.server.drain(5, idle=5))
    await asyncio.sleep(0.05)
    writer.write(GET)
    assert b"connection: close" in (await reader.readuntil(b"here")).lower()
    assert await reader.read() == b""
    fresh.close()
    assert await asyncio.wait_for(draining, 2) == 0
    writer.close()


async def test_who_rests_on_sees_an_end_and_what_crosses_it_no_reset(serve: Any) -> None:
    edge = await serve(app)
    reader, writer = await edge.open()
    writer.write(GET)
    await reader.readuntil(b"here")
    draining = asyncio.create_task(edge.server.drain(5, idle=0.05))
    assert await asyncio.wait_for(reader.read(), 2) == b""
    writer.write(GET)
    await asyncio.sleep(0.05)
    assert await reader.read() == b""  # an end, where a closed socket would have sent a reset
    writer.close()
    assert await asyncio.wait_for(draining, 2) == 0


async def test_the_deadline_holds_for_resting_connections_too(serve: Any) -> None:
    edge = await serve(app)
    _, writer = await edge.open()
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await edge.server.drain(0.1, idle=5) == 0
    assert loop.time() - began < 2
    with contextlib.suppress(ConnectionError):
        writer.close()
        await writer.wait_closed()
