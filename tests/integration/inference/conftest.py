"""The inference service with the real model behind a real server on a Unix socket, once for all tests."""

import asyncio
import importlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
import structlog
import uvicorn
from prometheus_client import CollectorRegistry

from moonpool.asgi.parts import Parts
from moonpool.contracts import context
from moonpool.contracts.clients import Clients
from moonpool.contracts.config import EngineConfig, PlatformConfig
from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.core.principal import Principal, Role

KEY = b"the key that signs contexts in tests"
ENGINE = EngineConfig(slots=2, queue=1, context=2048)
CALLER = Principal(user="user_1", tenant="org_1", role=Role.MEMBER)


async def _well() -> None: ...


def parts_of(config: PlatformConfig, data: Path) -> Parts:
    """Inference uses neither its database nor the event log."""
    module = importlib.import_module("moonpool.services.inference.manifest")
    nothing: Any = SimpleNamespace(ping=_well)
    return Parts(
        manifest=module.MANIFEST,
        release="v1",
        instance="inference-0",
        config=config,
        data=data,
        database=nothing,
        events=nothing,
        cache=nothing,
        objects=nothing,
        clients=Clients(),
        clock=SYSTEM_CLOCK,
        metrics=CollectorRegistry(),
        log=structlog.get_logger(),
        context_key=KEY,
        secrets={},
    )


class Platform:
    """The running service, as a gateway reaches it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def headers(self) -> dict[str, str]:
        signed = context.sign(
            KEY, issuer="gateway", audience="inference", principal=CALLER, now=SYSTEM_CLOCK.time()
        )
        return {context.HEADER.decode(): signed.decode(), "content-type": "application/json"}

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.AsyncHTTPTransport(uds=self.path)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://inference", headers=self.headers(), timeout=60
        ) as client:
            yield client

    async def post(self, path: str, body: Mapping[str, object]) -> httpx.Response:
        async with self.client() as client:
            return await client.post(path, json=body)

    async def stream(self, path: str, body: Mapping[str, object]) -> tuple[list[dict[str, Any]], bool]:
        """The events' objects, and whether `[DONE]` was the end."""
        response = await self.post(path, {**body, "stream": True})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        events = response.text.removesuffix("\n\n").split("\n\n")
        assert all(event.startswith("data: ") and "\n" not in event for event in events)
        done = events[-1] == "data: [DONE]"
        return [msgspec.json.decode(event[6:]) for event in events[: -1 if done else None]], done

    async def load(self) -> dict[str, Any]:
        async with self.client() as client:
            answer: dict[str, Any] = (await client.get("/internal/load")).json()["smollm2"]
            return answer

    async def until(self, condition: Callable[[dict[str, Any]], bool], seconds: float = 20) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while not condition(load := await self.load()):
                await asyncio.sleep(0.01)
        return load


def serve(app: Any, path: str) -> tuple[uvicorn.Server, threading.Thread]:
    server = uvicorn.Server(uvicorn.Config(app, uds=path, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
        assert thread.is_alive(), "the server did not start"
    return server, thread


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    app = importlib.import_module("moonpool.services.inference.app")
    folder = tmp_path_factory.mktemp("inference")
    path = str(folder / "s.sock")
    server, thread = serve(app.create(parts_of(PlatformConfig(engine=ENGINE), folder)), path)
    yield Platform(path)
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


Started = Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]


@pytest.fixture
async def start() -> AsyncIterator[Started]:
    """Start a coroutine beside the test; what still runs at its end is cancelled."""
    tasks: list[asyncio.Task[Any]] = []

    def begin(work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        tasks.append(asyncio.create_task(work))
        return tasks[-1]

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
