"""Once, whatever is repeated, and never again what was not done."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from moonpool.adapters.cache.memory import MemoryCache
from moonpool.contracts.manifest import BodyKind, Route, Timeouts
from moonpool.core.body import Stream
from moonpool.core.clock import ManualClock
from moonpool.core.errors import BadRequest, Conflict, StoreAway, StreamStalled, Unavailable, Unprocessable
from moonpool.core.message import Request, Response
from moonpool.core.principal import Principal
from moonpool.middleware.idempotency import GRACE, KEPT_SECONDS, Idempotency

ROUTE = Route(
    method="POST", path="/v1/chat/completions", repeatable=True, metered=True, timeouts=Timeouts(total=60)
)
DONE = b'data: {"choices":[]}\n\ndata: [DONE]\n\n'


class Payload:
    stream = True


class World:
    def __init__(self, make_ctx: Callable[..., Any], clock: ManualClock, log: Any) -> None:
        self.clock = clock
        self.log = log
        self.store = MemoryCache(clock=clock)
        self.filter = Idempotency(self.store, clock, log, largest=1000)
        self.make_ctx = make_ctx
        self.calls = 0
        self.answer: Any = None
        self.gate: asyncio.Event | None = None
        self.ctx: Any = None

    async def ask(
        self, key: bytes | None = b"k1", body: bytes = b"{}", query: str = "", user: str = "u"
    ) -> Response:
        self.ctx = ctx = self.make_ctx(
            route=ROUTE, streamed=True, principal=Principal(user=user, tenant="org_1")
        )

        async def end(ctx: Any, request: Request) -> Response:
            self.calls += 1
            if self.gate is not None:
                await self.gate.wait()
            given = self.answer() if callable(self.answer) else self.answer
            if isinstance(given, BaseException):
                raise given
            headers = [(b"content-type", b"application/json"), (b"x-moonpool-release", b"i@v1")]
            return given or Response(200, [*headers, (b"ratelimit", b"x"), (b"set-cookie", b"s")], b'{"n":1}')

        headers = {} if key is None else {b"idempotency-key": key}
        return await self.filter(ctx, Request("POST", ROUTE.path, query, headers, body), end)

    async def stream(self, *pieces: bytes) -> Stream:
        stream = Stream()
        self.answer = Response(200, [(b"content-type", b"text/event-stream")], stream)
        await self.ask()
        stream.connect(Nowhere())
        for data in pieces:
            stream.feed(data)
        return stream


class Nowhere:
    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def abort(self, error: Exception) -> None: ...


@pytest.fixture
async def world(make_ctx, clock, log) -> World:
    world = World(make_ctx, clock, log)
    await world.store.start()
    return world


def test_where_it_applies(world: World) -> None:
    assert world.filter.applies(ROUTE)
    assert not world.filter.applies(Route(method="POST", path="/"))
    assert not world.filter.applies(Route(method="POST", path="/", repeatable=True, body=BodyKind.STREAMED))


async def test_without_a_key_nothing_happens(world: World) -> None:
    await world.ask(None)
    await world.ask(None)
    assert (world.calls, world.store.entry_count, world.ctx.decisions) == (2, 0, [])


async def test_the_same_answer_again(world: World) -> None:
    first, again = await world.ask(), await world.ask()
    assert world.calls == 1
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers == [
        (b"content-type", b"application/json"),
        (b"x-moonpool-release", b"i@v1"),
        (b"idempotent-replayed", b"true"),
    ]
    world.clock.advance(KEPT_SECONDS - 1)
    await world.ask()
    assert world.calls == 1
    world.clock.advance(2)
    await world.ask()
    assert world.calls == 2


@pytest.mark.parametrize("other", [{"body": b'{"x":1}'}, {"query": "a=1"}])
async def test_another_payload(world: World, other: dict[str, Any]) -> None:
    await world.ask()
    with pytest.raises(Unprocessable) as caught:
        await world.ask(**other)
    assert caught.value.code == "idempotency_key_reused"
    assert world.calls == 1


async def test_another_key_and_another_user(world: World) -> None:
    await world.ask()
    await world.ask(b"k2")
    await world.ask(user="v", body=b"another payload")
    assert world.calls == 3


async def test_meanwhile(world: World) -> None:
    world.gate = asyncio.Event()
    first = asyncio.create_task(world.ask())
    await asyncio.sleep(0)
    with pytest.raises(Conflict) as caught:
        await world.ask()
    assert caught.value.retry_after == 1.0
    with pytest.raises(Unprocessable):
        await world.ask(body=b"another")
    world.gate.set()
    await first
    assert (await world.ask()).status == 200
    assert world.calls == 1


async def test_a_hundred_at_once(world: World) -> None:
    answers = await asyncio.gather(*(world.ask() for _ in range(100)), return_exceptions=True)
    assert world.calls == 1
    assert all(isinstance(one, Conflict | Response) for one in answers)


@pytest.mark.parametrize(
    "given",
    [Unavailable("x"), asyncio.CancelledError(), Response(503, [], b"{}"), Response(429, [], b"{}")],
)
async def test_what_failed_may_be_repeated(world: World, given: Any) -> None:
    world.answer = given
    with suppress(Unavailable, asyncio.CancelledError):
        await world.ask()
    await asyncio.sleep(0)
    world.answer = None
    assert (await world.ask()).status == 200
    assert world.calls == 2


@pytest.mark.parametrize(("fallback", "status", "calls"), [("degraded", 200, 2), ("service", 202, 1)])
async def test_fallbacks(world: World, fallback: str, status: int, calls: int) -> None:
    def answer() -> Response:
        world.ctx.fallback = fallback
        return Response(status, [], b"{}")

    world.answer = answer
    await world.ask()
    await world.ask()
    assert world.calls == calls


async def test_a_stream_is_repeated_whole(world: World) -> None:
    stream = await world.stream(DONE[:9], DONE[9:])
    with pytest.raises(Conflict):
        await world.ask()
    stream.finish()
    await asyncio.sleep(0)
    again = await world.ask()
    assert again.body == DONE
    assert again.header(b"content-type") == b"text/event-stream"
    assert world.calls == 1


@pytest.mark.parametrize("cut", range(len(DONE)))
@pytest.mark.parametrize("end", ["cancel", "fail", "finish"])
async def test_a_stream_cut_anywhere_may_be_repeated(world: World, cut: int, end: str) -> None:
    stream = await world.stream(DONE[:cut])
    {"cancel": stream.cancel, "finish": stream.finish, "fail": lambda: stream.fail(StreamStalled("x"))}[end]()
    await asyncio.sleep(0)
    world.answer = None
    answer = await world.ask()
    whole = end == "finish" and DONE[:cut].rstrip().endswith(b"[DONE]")
    assert (world.calls, answer.header(b"idempotent-replayed")) == ((1, b"true") if whole else (2, None))


async def test_an_answer_too_large_to_be_kept_is_not_done_again(world: World) -> None:
    world.answer = Response(200, [], b"x" * 1001)
    await world.ask()
    again = await world.ask()
    assert again.status == 409
    assert again.header(b"x-should-retry") == b"false"
    assert b"idempotency_answer_not_kept" in again.body
    assert world.calls == 1


async def test_a_stream_too_large_to_be_kept(world: World) -> None:
    stream = await world.stream(b"x" * 1001)
    stream.finish()
    await asyncio.sleep(0)
    assert (await world.ask()).status == 409


async def test_a_killed_gateway_s_claim_ends(world: World) -> None:
    world.gate = asyncio.Event()
    lost = asyncio.create_task(world.ask())
    await asyncio.sleep(0)
    world.clock.advance(ROUTE.timeouts.total + GRACE + 1)
    world.gate.set()
    assert (await world.ask()).status == 200
    await lost


async def test_a_long_stream_keeps_its_claim(world: World) -> None:
    stream = await world.stream()
    for _ in range(20):
        world.clock.advance((ROUTE.timeouts.total + GRACE) / 2)
        stream.feed(b": keep-alive\n\n")
        await asyncio.sleep(0)
    with pytest.raises(Conflict):
        await world.ask()
    stream.feed(DONE)
    stream.finish()
    await asyncio.sleep(0)
    assert (await world.ask()).status == 200
    assert world.calls == 1


@pytest.mark.parametrize("key", [b"", b"a b", b"a, b", b"\xe9", b"a\x00", b"k" * 256])
async def test_keys_that_are_none(world: World, key: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        await world.ask(key)
    assert caught.value.param == "idempotency-key"
    assert world.calls == 0


@pytest.mark.parametrize("key", [b"k", b"k" * 255, b'"8e03978e-40d5-43dd-bc93-6894a57f9324"'])
async def test_keys_that_are(world: World, key: bytes) -> None:
    assert (await world.ask(key)).status == 200


async def test_without_its_store_requests_go_on(world: World) -> None:
    await world.store.stop()
    assert (await world.ask()).status == 200
    assert world.log.lines[0][:2] == ("warning", "idempotency not promised")
    assert world.ctx.decisions[0][:2] == ("idempotency", "unavailable")


async def test_a_store_that_goes_away_meanwhile(world: World) -> None:
    world.gate = asyncio.Event()
    asked = asyncio.create_task(world.ask())
    await asyncio.sleep(0)
    await world.store.stop()
    world.gate.set()
    assert (await asked).status == 200
    assert world.log.lines[0][1] == "answer not kept"


@pytest.mark.parametrize("since", ["before", "meanwhile"])
async def test_a_store_that_tells_of_itself_is_not_told_of_for_each_request(
    world: World, monkeypatch, since: str
) -> None:
    async def away(*words: object, **how: object) -> None:
        raise StoreAway("redis is away")

    for name in ("get", "set", "delete", *(["add"] if since == "before" else [])):
        monkeypatch.setattr(world.store, name, away)
    assert (await world.ask()).status == 200
    assert world.log.lines == []


async def test_stop_waits_for_what_is_written(world: World) -> None:
    stream = await world.stream(DONE)
    stream.finish()
    await world.filter.stop()
    assert (await world.ask()).body == DONE
