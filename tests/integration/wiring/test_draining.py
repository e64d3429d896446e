"""A service that is told to stop says so, lets its requests end, and knows how long it still has."""

import asyncio
from pathlib import Path

import httpx

from moonpool.asgi.shutdown import Shutdown
from moonpool.wiring.listening import bind_unix
from moonpool.wiring.modules import serve_application
from moonpool.wiring.settings import ModuleSettings

DRAIN = 5.0


async def test_told_to_stop(tmp_path: Path) -> None:
    shutdown, arrived = Shutdown(), asyncio.Event()
    seen: dict[str, tuple[bool, float]] = {}

    async def app(scope, receive, send) -> None:
        if scope["type"] == "http":
            seen["before"] = shutdown.begun, shutdown.remaining()
            arrived.set()
            while not shutdown.begun:
                await asyncio.sleep(0.01)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ended well"})
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        seen["lifespan"] = shutdown.begun, shutdown.remaining()
        await send({"type": "lifespan.shutdown.complete"})

    path = tmp_path / "x.sock"
    settings = ModuleSettings(
        name="x", instance="x-0-1", endpoint=f"unix:{path}", data=".", topology="t", drain_timeout=DRAIN
    )
    ready = asyncio.Event()
    serving = asyncio.create_task(serve_application(app, settings, [bind_unix(path)], shutdown, ready.set))
    await ready.wait()
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as client:
        asking = asyncio.create_task(client.get("http://x/"))
        await arrived.wait()
        assert shutdown.under_way() == 1
        shutdown.begin(DRAIN)
        assert (await asking).text == "ended well"
    await serving
    assert seen["before"] == (False, 0.0)
    begun, remaining = seen["lifespan"]
    assert begun
    assert 0.5 * DRAIN < remaining < DRAIN


async def test_what_has_long_is_cut_when_it_is_told_to_end_soon(tmp_path: Path) -> None:
    shutdown, arrived, ended = Shutdown(), asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            arrived.set()
            await asyncio.Event().wait()
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        ended.set()
        await send({"type": "lifespan.shutdown.complete"})

    path = tmp_path / "x.sock"
    settings = ModuleSettings(
        name="x", instance="x-0-1", endpoint=f"unix:{path}", data=".", topology="t", drain_timeout=0.1
    )
    ready = asyncio.Event()
    serving = asyncio.create_task(serve_application(app, settings, [bind_unix(path)], shutdown, ready.set))
    await ready.wait()
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    await arrived.wait()
    shutdown.begin(900.0)
    await asyncio.sleep(0.3)
    assert not serving.done()
    shutdown.begin(0.2)
    async with asyncio.timeout(5):
        await serving
    assert ended.is_set()
    assert b"begun" in await reader.read()
    writer.close()
