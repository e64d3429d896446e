"""Real sockets on uvloop: a server for an application, and raw clients and upstreams to test it with."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from moonpool.core.errors import MoonpoolError
from moonpool.core.message import Request, Response
from moonpool.http.address import Address
from moonpool.http.client import Client
from moonpool.http.server import Server

Serve = Callable[..., Awaitable["Edge"]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def render_error(error: MoonpoolError) -> Response:
    return Response(error.status, [(b"content-type", b"text/plain")], error.message.encode())


def render_stream_error(error: Exception) -> bytes:
    return b'data: {"error": "%b"}\n\n' % type(error).__name__.encode()


class Edge:
    """A running server and how to reach it."""

    def __init__(self, server: Server, place: Any, ssl: Any) -> None:
        self.server = server
        self.place = place
        self.ssl = ssl

    @property
    def url(self) -> str:
        return f"unix:{self.place}" if isinstance(self.place, str) else f"http://127.0.0.1:{self.place[1]}"

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.place, str):
            return await asyncio.open_unix_connection(self.place)
        return await asyncio.open_connection(*self.place[:2], ssl=self.ssl)

    async def talk(self, raw: bytes) -> bytes:
        """Send, then read until the server closes."""
        reader, writer = await self.open()
        writer.write(raw)
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    edges: list[Edge] = []

    async def start(
        application: Callable[[Request], Awaitable[Response]],
        *,
        unix: bool = False,
        client_ssl: Any = None,
        **options: Any,
    ) -> Edge:
        if unix:
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(str(tmp_path / f"edge-{len(edges)}.sock"))
        else:
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
        sock.listen(100)
        options.setdefault("render_error", render_error)
        options.setdefault("render_stream_error", render_stream_error)
        server = Server(application, **options)
        await server.start([sock])
        edge = Edge(server, sock.getsockname(), client_ssl)
        sock.close()
        edges.append(edge)
        return edge

    yield start
    for edge in edges:
        await edge.server.drain(0)


class Upstream:
    """A raw endpoint: each connection runs `script(reader, writer)`; `accepted` counts them."""

    def __init__(self, script: Callable[[Any, Any], Awaitable[None]]) -> None:
        self.script = script
        self.accepted = 0
        self.gone = asyncio.Event()
        """A script ended or its peer left."""
        self.server: asyncio.AbstractServer | None = None
        self.tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> Address:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        return Address.parse(f"http://127.0.0.1:{port}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self.script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.gone.set()
            self.tasks.discard(task)
            writer.close()

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def upstream() -> AsyncIterator[Callable[..., Awaitable[tuple[Upstream, Address]]]]:
    started: list[Upstream] = []

    async def start(script: Callable[[Any, Any], Awaitable[None]]) -> tuple[Upstream, Address]:
        endpoint = Upstream(script)
        address = await endpoint.start()
        started.append(endpoint)
        return endpoint, address

    yield start
    for endpoint in started:
        await endpoint.stop()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    client = Client()
    yield client
    await client.aclose()
