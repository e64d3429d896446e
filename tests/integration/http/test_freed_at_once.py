"""What an exchange made is freed when it is over, by counting alone: the gateway's collector of circles looks
at what is older only after millions of objects, and until then a circle is a leak."""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from moonpool.core.message import Request, Response
from moonpool.http.address import Address
from moonpool.http.client import Client

EXCHANGES = 20
EVENT = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'


async def endpoint(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
            writer.write(b"transfer-encoding: chunked\r\n\r\n")
            for _ in range(8):
                writer.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
                await asyncio.sleep(0)
            writer.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


@pytest.fixture
def circles() -> Iterator[Counter[str]]:
    """For `collect`, which fills it with the kinds of our objects that only the collector could free."""
    yield Counter()
    gc.set_debug(0)
    gc.garbage.clear()
    gc.unfreeze()
    gc.enable()


def collect(found: Counter[str]) -> Counter[str]:
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found.update(type(each).__name__ for each in gc.garbage if "moonpool" in type(each).__module__)
    return found


@pytest.mark.parametrize("how", ["kept", "closed", "left"])
async def test_streams(serve: Any, circles: Counter[str], how: str) -> None:
    """On a kept connection, on one each, and left by their clients in the middle."""
    upstream = await asyncio.start_server(endpoint, "127.0.0.1", 0)
    address = Address.parse(f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}")
    client = Client()

    async def relay(request: Request) -> Response:
        asked = Request("GET", "/", headers={b"host": b"a"})
        return await client.send(address, asked, connect_timeout=5, first_byte_timeout=5, idle_timeout=5)

    edge = await serve(relay)
    kept = await edge.open()

    async def exchange() -> None:
        reader, writer = kept if how == "kept" else await edge.open()
        close = b"" if how == "kept" else b"connection: close\r\n"
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n" + close + b"\r\n")
        await reader.readuntil(b"data: " if how == "left" else b"\r\n0\r\n\r\n")
        if how != "kept":
            writer.close()
            await writer.wait_closed()

    await exchange()
    await asyncio.sleep(0.05)
    gc.collect()
    gc.freeze()
    gc.disable()
    for _ in range(EXCHANGES):
        await exchange()
    async with asyncio.timeout(5):
        while edge.server.connections > 1:
            await asyncio.sleep(0.01)

    assert collect(circles) == {}
    kept[1].close()
    await client.aclose()
    upstream.close()
