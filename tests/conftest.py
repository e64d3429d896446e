"""What tests of services share: parts for one service on a real database, and a client that runs its
application in this process, as a caller with a signed context."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from prometheus_client import CollectorRegistry

from moonpool.adapters.database.migrate import service_migrations
from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.asgi.parts import Parts
from moonpool.contracts import context
from moonpool.contracts.clients import Clients
from moonpool.contracts.config import PlatformConfig
from moonpool.core.clock import ManualClock
from moonpool.core.errors import Unavailable
from moonpool.core.principal import Principal, Role
from moonpool.ports.events import Delivered, Event

MEMBER = Principal(user="user_member", tenant="org_test", key="", role=Role.MEMBER)
ADMIN = Principal(user="user_admin", tenant="org_test", key="", role=Role.ADMIN)
KEY = b"the key that signs contexts in tests"


class MemoryEvents:
    """An event log with one partition a topic; `away` makes every call fail."""

    def __init__(self) -> None:
        self.away = False
        self.topics: dict[str, list[Event]] = {}
        self.committed: dict[tuple[str, str], int] = {}
        self.appended = asyncio.Event()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def ping(self) -> None:
        if self.away:
            raise Unavailable("the event log is away")

    async def append(self, topic: str, events: Sequence[Event]) -> None:
        await self.ping()
        self.topics.setdefault(topic, []).extend(events)
        self.appended.set()

    async def lag(self, topic: str, group: str) -> int:
        await self.ping()
        return len(self.topics.get(topic, [])) - self.committed.get((topic, group), 0)

    @asynccontextmanager
    async def consumer(
        self, topic: str, group: str, *, from_end: bool = False
    ) -> AsyncIterator["MemoryConsumer"]:
        await self.ping()
        yield MemoryConsumer(self, topic, group)


class MemoryConsumer:
    def __init__(self, log: MemoryEvents, topic: str, group: str) -> None:
        self._log = log
        self._topic = topic
        self._group = group
        self._next = log.committed.get((topic, group), 0)

    async def poll(self, *, limit: int = 500, wait: float = 1.0) -> Sequence[Delivered]:
        await self._log.ping()
        if self._next >= len(self._log.topics.get(self._topic, [])):
            self._log.appended.clear()
            try:
                await asyncio.wait_for(self._log.appended.wait(), wait)
            except TimeoutError:
                return []
        events = self._log.topics.get(self._topic, [])[self._next : self._next + limit]
        start, self._next = self._next, self._next + len(events)
        return [Delivered(self._topic, 0, start + n, 0.0, event) for n, event in enumerate(events)]

    async def commit(self) -> None:
        await self._log.ping()
        self._log.committed[self._topic, self._group] = self._next


class Service:
    """One service's application with its lifespan running."""

    def __init__(self, parts: Parts, client: httpx.AsyncClient) -> None:
        self.parts = parts
        self.client = client

    async def call(
        self,
        method: str,
        path: str,
        *,
        caller: Principal = MEMBER,
        issuer: str = "gateway",
        headers: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> httpx.Response:
        """Call in the name of `caller`."""
        audience = self.parts.manifest.service
        signed = context.sign(
            KEY, issuer=issuer, audience=audience, principal=caller, now=self.parts.clock.time()
        )
        all_headers = {context.HEADER.decode(): signed.decode(), **(headers or {})}
        return await self.client.request(method, path, headers=all_headers, **arguments)


MakeParts = Callable[..., Awaitable[Parts]]
Fresh = Callable[[str, Path], Awaitable[None]]
RunService = Callable[[Parts], Awaitable[Service]]


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """Puts a service's empty database to a path: migrated once a session, and copied from then on."""
    folder = tmp_path_factory.mktemp("fresh")

    async def put(name: str, path: Path) -> None:
        kept = folder / f"{name}.db"
        if not kept.exists():
            database = SqliteDatabase(kept, service_migrations(name))
            await database.start()
            await database.stop()
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(kept, path)

    return put


@pytest.fixture
async def make_parts(tmp_path: Path, fresh: Fresh) -> AsyncIterator[MakeParts]:
    """`await make_parts("auth", clock=…)`: Parts with a started SQLite database below `tmp_path`.

    Called again for the same name it opens the same data, as a restarted service would."""
    async with AsyncExitStack() as stack:

        async def make(name: str, **overrides: Any) -> Parts:
            path = tmp_path / "db" / f"{name}.db"
            if not path.exists():
                await fresh(name, path)
            database = SqliteDatabase(path, service_migrations(name))
            await database.start()
            stack.push_async_callback(database.stop)
            fields: dict[str, Any] = {
                "manifest": import_module(f"moonpool.services.{name}.manifest").MANIFEST,
                "release": "v1",
                "instance": f"{name}-0",
                "config": PlatformConfig(),
                "data": tmp_path,
                "database": database,
                "events": MemoryEvents(),
                "cache": None,
                "objects": None,
                "clients": Clients(),
                "clock": ManualClock(),
                "metrics": CollectorRegistry(),
                "log": structlog.get_logger(),
                "context_key": KEY,
                "secrets": {"pepper": b"a pepper for tests only"},
            }
            return Parts(**{**fields, **overrides})

        yield make


@pytest.fixture
async def run_service() -> AsyncIterator[RunService]:
    """`await run_service(parts)`: the service's application, running until the test ends."""
    async with AsyncExitStack() as stack:

        async def run(parts: Parts) -> Service:
            app = import_module(f"moonpool.services.{parts.manifest.service}.app").create(parts)
            await stack.enter_async_context(_lifespan(app))
            transport = httpx.ASGITransport(app)
            client = httpx.AsyncClient(transport=transport, base_url="http://service")
            return Service(parts, await stack.enter_async_context(client))

        yield run


@asynccontextmanager
async def _lifespan(app: Any) -> AsyncIterator[None]:
    """Start and stop an ASGI application as a server does; its failure to start is raised here."""
    to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.3"}, "state": {}}
    task = asyncio.create_task(app(scope, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    started = await from_app.get()
    if started["type"] != "lifespan.startup.complete":
        await task
        raise RuntimeError(started.get("message", "the application did not start"))
    try:
        yield
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        await from_app.get()
        await task


@pytest.fixture
def member() -> Principal:
    return MEMBER


@pytest.fixture
def admin() -> Principal:
    return ADMIN
