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
    shutdown, stop, arrived = Shutdown(), asyncio.Event(), asyncio.Event()
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
    serving = asyncio.create_task(
        serve_application(app, shutdown, settings, [bind_unix(path)], stop, ready.set)
    )
    await ready.wait()
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as client:
        asking = asyncio.create_task(client.get("http://x/"))
        await arrived.wait()
        stop.set()
        assert (await asking).text == "ended well"
    await serving
    assert seen["before"] == (False, 0.0)
    begun, remaining = seen["lifespan"]
    assert begun
    assert 0.5 * DRAIN < remaining < DRAIN
