"""Modules for the supervisor's tests: a tiny HTTP server whose behaviour the config file (JSON) says.

{"beta": {"refuse": "text"}}          raises StartupError
{"beta": {"fall": "text"}}            raises ValueError
{"beta": {"unready_until": PATH}}     /readyz says 503 until that file exists
{"beta": {"deaf": PATH}}              once that file exists, the event loop is stuck
{"beta": {"linger": SECONDS}}         takes that long to drain, whatever it is told
{"beta": {"streams": SECONDS}}        the same, in the time that it has
{"beta@v2": …}                        of that release only
"""

import asyncio
import json
import os
import time
from pathlib import Path

from moonpool.core.errors import StartupError


async def run(name, settings, sockets, stop, ready):
    told = json.loads(Path(settings.config).read_text()) if settings.config else {}
    behaviour = told.get(f"{name}@{settings.release}", told.get(name, {}))
    if "refuse" in behaviour:
        raise StartupError(behaviour["refuse"], where=f"{name}.db", hint="Mend it.")
    if "fall" in behaviour:
        raise ValueError(behaviour["fall"])
    if "load" in behaviour:
        print(f"{name} loads", flush=True)
        time.sleep(behaviour["load"])

    async def serve(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                target = head.split(b" ", 2)[1].decode()
                status, body = answer(target)
                writer.write(
                    f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body.encode()
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def answer(target):
        gate = behaviour.get("unready_until")
        if target == "/readyz" and gate and not Path(gate).exists():
            return 503, json.dumps({"status": "unready", "checks": {"model": "loading 42 %", "db": "ok"}})
        gate = behaviour.get("degraded_until")
        if target == "/readyz" and gate and not Path(gate).exists():
            return 200, json.dumps({"status": "degraded", "checks": {"alpha": "away", "db": "ok"}})
        if target == "/readyz":
            return 200, json.dumps({"status": "ready", "checks": {"db": "ok"}})
        if target == "/pid":
            return 200, str(os.getpid())
        if target == "/settings":
            secrets = settings.secrets
            told = {"instance": settings.instance, "calls": sorted(secrets.calls), "own": sorted(secrets.own)}
            return 200, json.dumps({**told, "umask": os.umask(0o077), "repr": repr(settings)})
        return 200, json.dumps({"status": "ok"})

    async def watch_ears():
        while True:
            await asyncio.sleep(0.02)
            if Path(behaviour["deaf"]).exists():
                time.sleep(600)

    servers = []
    for sock in sockets:
        start = asyncio.start_unix_server if sock.family.name == "AF_UNIX" else asyncio.start_server
        servers.append(await start(serve, sock=sock))
    ears = asyncio.create_task(watch_ears()) if "deaf" in behaviour else None
    ready()
    print(f"{name} prints", flush=True)
    await stop.wait()
    for server in servers:
        server.close()
    if ears:
        ears.cancel()
    stop.under_way = lambda: 2
    await stop.within(lambda seconds: asyncio.sleep(min(behaviour.get("streams", 0), seconds)))
    await asyncio.sleep(behaviour.get("linger", 0))


async def run_uvicorn(name, settings, sockets, stop, ready):
    """The same on uvicorn, as the services are."""
    import uvicorn

    async def app(scope, receive, send):
        body = b'{"status": "ready"}' if scope["path"] != "/pid" else str(os.getpid()).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, http="httptools"))
    server.install_signal_handlers = lambda: None
    serving = asyncio.create_task(server._serve(sockets=sockets))
    ready()
    await stop.wait()
    server.should_exit = True
    await serving
