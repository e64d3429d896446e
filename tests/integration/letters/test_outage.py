"""An outage from the client's side: fallback, dead letter and worker around a real queue on disk, and an
upstream on a real socket that refuses, fails a number of times, and comes back."""

import asyncio
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from random import Random

import msgspec
import pytest
import structlog

from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.adapters.dead_letters.store import DatabaseDeadLetters
from moonpool.contracts.manifest import Access, Letters, Manifest, Route, Timeouts
from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.core.context import Context
from moonpool.core.message import Request, Response
from moonpool.core.principal import Principal, Role
from moonpool.gateway.app import Gateway
from moonpool.gateway.dead_letters import DeadLetterRoutes
from moonpool.gateway.replaying import Replayer
from moonpool.http.address import Address
from moonpool.http.client import Client
from moonpool.middleware.causes import Causes
from moonpool.middleware.dead_letter import DeadLetter
from moonpool.middleware.deferring import Deferring
from moonpool.middleware.fallback import FallbackFilter
from moonpool.middleware.last_known import LastKnownMemory
from moonpool.middleware.letter_replay import Replays
from moonpool.middleware.letter_worker import LetterWorker
from moonpool.ports.dead_letters import State, Which

MIGRATIONS = Path(str(resources.files("moonpool.adapters.dead_letters"))) / "migrations"
ROUTE = Route(
    method="POST", path="/v1/work", letters=Letters.FAILED, timeouts=Timeouts(total=5.0, connect=1.0)
)
MANIFEST = Manifest(service="work", summary="x", routes=(ROUTE,))
WHO = Principal(user="u", tenant="t", key="k", role=Role.ADMIN)
PROMPT = b'{"prompt":"tell me of the tides"}'
LOG = structlog.get_logger()


class Work:
    """A server that fails the first `failures` requests, by cutting the connection or with 503."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.seen: list[bytes] = []
        self.done: list[bytes] = []
        self.server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        return int(self.server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            await self.server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(PROMPT))
        key = next(line for line in head.split(b"\r\n") if line.startswith(b"idempotency-key"))
        self.seen.append(key)
        if len(self.seen) <= self.failures:
            if len(self.seen) % 2:
                writer.write(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        else:
            self.done.append(key)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\ndone")
        writer.close()


class Identity:
    """In the place of authentication and tracing: who asks, and a request id."""

    count = 0

    def applies(self, route: Route) -> bool:
        return True

    async def __call__(self, ctx: Context, request: Request, next) -> Response:
        if not ctx.request_id:
            Identity.count += 1
            ctx.request_id, ctx.principal = f"req_{Identity.count}", WHO
        return await next(ctx, request)


class House:
    def __init__(self, folder: Path, port: int) -> None:
        self.address = Address.parse(f"http://127.0.0.1:{port}")
        self.client = Client(clock=SYSTEM_CLOCK)
        self.folder = folder
        self.letters = DatabaseDeadLetters(SqliteDatabase(folder / "letters.db", MIGRATIONS), [b"k" * 32])
        identity, self.causes = Identity(), Causes(SYSTEM_CLOCK)
        replayer = Replayer(
            manifests=[MANIFEST], filters=[identity], upstream=self.upstream, clock=SYSTEM_CLOCK
        )
        self.replays = Replays(self.letters, replayer, SYSTEM_CLOCK, Random(1), LOG)
        self.worker = LetterWorker(self.letters, self.replays, lambda: (), SYSTEM_CLOCK, LOG)
        deferring = Deferring(self.letters, self.causes, SYSTEM_CLOCK, LOG, wake=self.worker.wake)
        fallback = FallbackFilter({}, LastKnownMemory(SYSTEM_CLOCK), self.causes, LOG)
        self.gateway = Gateway(
            manifests=[MANIFEST],
            filters=[identity, DeadLetter(deferring), fallback],
            upstream=self.upstream,
            own=DeadLetterRoutes(self.letters, self.replays).routes(),
            clock=SYSTEM_CLOCK,
        )

    def upstream(self, service: str, route: Route):
        async def send(ctx: Context, request: Request) -> Response:
            headers = {b"idempotency-key": ctx.request_id.encode()} | request.headers
            onward = Request(request.method, request.path, "", headers, request.body)
            return await self.client.send(
                self.address, onward, connect_timeout=1.0, first_byte_timeout=5.0, idle_timeout=5.0
            )

        return send

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: bytes) -> Response:
        named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        return await self.gateway.handle(Request(method, path, "", named, body))

    async def hasten(self) -> None:
        """In the place of waiting for the growing delays."""
        await self.letters.hasten("work", now=SYSTEM_CLOCK.time())
        self.worker._schedule.succeeded("work")
        self.worker.wake()


@pytest.fixture
async def work() -> AsyncIterator[Work]:
    work = Work(failures=4)
    yield work
    await work.stop()


@pytest.fixture
async def house(tmp_path: Path, work: Work) -> AsyncIterator[House]:
    house = House(tmp_path, await work.start())
    await house.letters.start()
    yield house
    await house.worker.stop()
    await house.client.aclose()
    await house.letters.stop()


async def until_answered(house: House, place: str) -> Response:
    async with asyncio.timeout(20):
        while (response := await house.ask("GET", place)).status == 202:
            await house.hasten()
            await asyncio.sleep(0.02)
    return response


async def test_asked_for_later_it_is_there_after_four_failures(house: House, work: Work) -> None:
    await house.worker.start()
    accepted = await house.ask("POST", "/v1/work", PROMPT, prefer=b"respond-async")
    assert (accepted.status, len(work.done)) == (202, 0)
    answer = await until_answered(house, accepted.header(b"location").decode())
    assert (answer.status, answer.body) == (200, b"done")
    assert (len(work.seen), len(work.done), len(set(work.seen))) == (5, 1, 1)
    note = (await house.letters.page(Which(), limit=9))[0]
    assert (note.state, note.attempts) == (State.ANSWERED, 5)
    stored = b"".join(file.read_bytes() for file in house.folder.iterdir())
    assert note.id.encode() in stored
    assert b"tides" not in stored


async def test_failed_degraded_kept_replayed_once(house: House, work: Work) -> None:
    work.failures = 2
    refused = await house.ask("POST", "/v1/work", PROMPT)
    assert (refused.status, refused.header(b"x-moonpool-fallback")) == (503, b"degraded")
    assert refused.header(b"retry-after") == b"5"
    letter = refused.header(b"x-moonpool-dead-letter").decode()

    async def replay() -> dict:
        return msgspec.json.decode((await house.ask("POST", f"/admin/dlq/{letter}/replay")).body)

    assert (await replay())["failed"] == 1
    assert (await house.letters.page(Which(), limit=9))[0].attempts == 1
    reports = await asyncio.gather(*(replay() for _ in range(5)))
    assert sum(report["answered"] for report in reports) == 1
    assert (await replay())["data"][0]["outcome"] == "already answered"
    assert len(work.done) == 1
    assert len(await house.letters.page(Which(), limit=9)) == 1
    assert (await house.ask("GET", f"/v1/deferred/{letter}")).body == b"done"
    assert {each.kind for each in house.causes.top()} == {"degraded", "dead_letter"}


async def test_a_platform_that_ends_in_the_middle_goes_on_where_it_was(house: House, work: Work) -> None:
    accepted = await house.ask("POST", "/v1/work", PROMPT, prefer=b"respond-async", idempotency_key=b"mine")
    await house.letters.stop()
    again = House(house.folder, house.address.port)
    await again.letters.start()
    await again.worker.start()
    try:
        answer = await until_answered(again, accepted.header(b"location").decode())
    finally:
        await again.worker.stop()
        await again.client.aclose()
        await again.letters.stop()
    assert (answer.body, work.done) == (b"done", [b"idempotency-key: mine"])


def test_the_routes_are_open_to_the_right_ones(house: House) -> None:
    own = {route.path: route.access for route, _ in DeadLetterRoutes(house.letters, house.replays).routes()}
    assert own["/admin/dlq"] is Access.ADMIN
