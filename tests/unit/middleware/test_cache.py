"""What is kept, for whom, how long, and in which form it is answered again."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from moonpool.adapters.cache.memory import MemoryCache
from moonpool.contracts.catalogue import Model, Target
from moonpool.contracts.manifest import Cached, Route
from moonpool.contracts.usage import Usage
from moonpool.core.body import Stream
from moonpool.core.clock import ManualClock
from moonpool.core.errors import BadRequest, StoreAway, StreamStalled, Unavailable
from moonpool.core.message import Request, Response
from moonpool.core.principal import Principal
from moonpool.middleware.cache import AnswerCache
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest

POLICY = Cached(fresh=100, while_revalidating=50, if_error=1000)
ROUTE = Route(
    method="POST", path="/v1/chat/completions", schema="ChatCompletionRequest", metered=True, cached=POLICY
)
MODEL = Model(id="m", targets=(Target(id="t", url="http://h/v1"),), revision="1")


def answer(text: str = "hi") -> bytes:
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    return msgspec.json.encode(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }
    )


def piece(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


WHOLE = piece({"role": "assistant", "content": "h"}) + piece({"content": "i"}, "stop") + b"data: [DONE]\n\n"


class World:
    """The filter around a handler that counts its calls."""

    def __init__(self, make_ctx: Callable[..., Any], clock: ManualClock, log: Any) -> None:
        self.clock = clock
        self.store = MemoryCache(clock=clock)
        self.cache = AnswerCache(self.store, lambda alias, path: MODEL, clock, log, follow=5.0)
        self.make_ctx = make_ctx
        self.calls: list[Any] = []
        self.answer: Any = None
        self.gate: asyncio.Event | None = None
        self.ctx: Any = None
        self.log = log

    async def end(self, ctx: Any, request: Request) -> Response:
        self.calls.append(ctx)
        if self.gate is not None:
            await self.gate.wait()
        ctx.usage = Usage(prompt_tokens=5, completion_tokens=1)
        given = self.answer() if callable(self.answer) else self.answer
        if isinstance(given, BaseException):
            raise given
        if isinstance(given, Response):
            return given
        return Response(
            200, [(b"content-type", b"application/json"), (b"x-moonpool-release", b"i@v1")], given or answer()
        )

    async def ask(
        self,
        headers: dict[bytes, bytes] | None = None,
        *,
        tenant: str = "org_1",
        route: Route = ROUTE,
        **fields: Any,
    ) -> Response:
        question = {"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 0, **fields}
        body = msgspec.json.encode(question)
        self.ctx = self.make_ctx(
            payload=parse(ChatCompletionRequest, body),
            route=route,
            principal=Principal(user="u", tenant=tenant, key="k"),
        )
        response = await self.cache(self.ctx, Request("POST", route.path, "", headers or {}, body), self.end)
        await asyncio.sleep(0)
        return response

    async def stream(self, *pieces: bytes, **fields: Any) -> Stream:
        stream = Stream()
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        self.answer = Response(200, headers, stream)
        await self.ask(stream=True, **fields)
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


def how(response: Response) -> bytes | None:
    return response.header(b"x-moonpool-cache")


def test_where_it_applies(world: World) -> None:
    assert world.cache.applies(ROUTE)
    assert not world.cache.applies(Route(method="POST", path="/", schema="X"))


async def test_the_same_question_is_answered_once(world: World) -> None:
    first, second = await world.ask(), await world.ask()
    assert (how(first), how(second)) == (b"miss", b"hit")
    assert second.body == first.body == answer()
    assert second.header(b"age") == b"0"
    assert second.header(b"x-moonpool-release") == b"i@v1"
    assert len(world.calls) == 1
    assert world.ctx.decisions[-1][:2] == ("cache", "hit")
    assert world.ctx.model == "m"


async def test_another_organisation_asks_for_itself(world: World) -> None:
    await world.ask()
    assert how(await world.ask(tenant="org_2")) == b"miss"
    assert how(await world.ask(tenant="")) == b"bypass"


@pytest.mark.parametrize(
    ("headers", "fields", "route", "kept"),
    [
        ({}, {}, ROUTE, True),
        ({}, {"temperature": 1}, ROUTE, False),
        ({}, {"temperature": 1, "seed": 3}, ROUTE, True),
        ({b"x-moonpool-cache": b"on"}, {"temperature": 1}, ROUTE, True),
        ({b"x-moonpool-cache": b" ON "}, {"temperature": 1}, ROUTE, True),
        ({b"x-moonpool-cache": b"off"}, {}, ROUTE, False),
        ({b"cache-control": b"no-store"}, {}, ROUTE, False),
        ({}, {"temperature": 1}, msgspec.structs.replace(ROUTE, cached=Cached(every=True)), True),
    ],
)
async def test_what_is_kept(world: World, headers, fields, route: Route, kept: bool) -> None:
    first = await world.ask(headers, route=route, **fields)
    again = await world.ask(headers, route=route, **fields)
    assert (how(first), how(again)) == ((b"miss", b"hit") if kept else (b"bypass", b"bypass"))


async def test_an_unknown_mode(world: World) -> None:
    with pytest.raises(BadRequest):
        await world.ask({b"x-moonpool-cache": b"yes"})


@pytest.mark.parametrize("header", [{b"x-moonpool-cache": b"refresh"}, {b"cache-control": b"no-cache"}])
async def test_refresh_asks_anew_and_keeps_that(world: World, header: dict[bytes, bytes]) -> None:
    await world.ask()
    world.answer = answer("new")
    assert how(await world.ask(header)) == b"miss"
    again = await world.ask()
    assert (how(again), again.body) == (b"hit", answer("new"))


@pytest.mark.parametrize(
    "given",
    [
        Response(503, [], b"{}"),
        Response(200, [(b"cache-control", b"private, no-store")], answer()),
        Response(200, [], b'{"choices":[{"finish_reason":"content_filter"}]}'),
        Response(200, [], b'{"error":{}}'),
        Response(200, [], b"no json"),
        Unavailable("x"),
        asyncio.CancelledError(),
    ],
)
async def test_what_is_no_whole_answer_is_not_kept(world: World, given: Any) -> None:
    world.answer = given
    for _ in range(2):
        with suppress(Unavailable, asyncio.CancelledError):
            assert how(await world.ask()) == b"miss"
    assert len(world.calls) == 2
    assert world.store.entry_count == 0


async def test_a_fallback_s_answer_is_not_kept(world: World) -> None:
    def degraded() -> Response:
        world.ctx.fallback = "degraded"
        return Response(200, [], answer())

    world.answer = degraded
    await world.ask()
    await world.ask()
    assert len(world.calls) == 2


async def test_only_if_cached(world: World) -> None:
    refused = await world.ask({b"cache-control": b"only-if-cached"})
    assert refused.status == 504
    assert refused.header(b"x-should-retry") == b"false"
    assert world.calls == []
    assert (await world.ask({b"cache-control": b"only-if-cached"}, temperature=1)).status == 504
    await world.ask()
    assert how(await world.ask({b"cache-control": b"only-if-cached"})) == b"hit"


async def test_stale_is_answered_and_renewed_behind(world: World) -> None:
    await world.ask()
    world.clock.advance(120)
    world.answer = answer("new")
    stale = await world.ask()
    assert (how(stale), stale.header(b"age"), stale.body) == (b"stale", b"120", answer())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    fresh = await world.ask()
    assert (how(fresh), fresh.body) == (b"hit", answer("new"))
    assert len(world.calls) == 2
    assert world.calls[1].request_id == "req_1.renewal"
    assert world.calls[1].principal == world.ctx.principal


async def test_a_renewal_reads_its_stream_to_the_end(world: World) -> None:
    stream = await world.stream(WHOLE)
    stream.finish()
    await asyncio.sleep(0)
    world.clock.advance(120)
    renewed = Stream()
    world.answer = Response(200, [(b"content-type", b"text/event-stream")], renewed)
    assert how(await world.ask(stream=True)) == b"stale"
    await asyncio.sleep(0)
    renewed.feed(WHOLE.replace(b'"h"', b'"H"'))
    renewed.finish()
    await asyncio.sleep(0)
    assert b"Hi" in (await world.ask()).body


async def test_one_renewal_at_a_time_and_none_that_hurts(world: World) -> None:
    await world.ask()
    world.clock.advance(120)
    world.gate = asyncio.Event()
    world.answer = Unavailable("away")
    for _ in range(5):
        assert how(await world.ask()) == b"stale"
    assert len(world.calls) == 2
    world.gate.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [line[0] for line in world.log.lines] == ["info"]
    await world.ask()
    assert len(world.calls) == 3


async def test_the_stale_entry_waits_for_the_fallback(world: World) -> None:
    await world.ask()
    world.clock.advance(500)
    world.answer = Unavailable("away")
    with pytest.raises(Unavailable):
        await world.ask()
    response = world.ctx.stale()
    assert (response.status, how(response), response.header(b"age")) == (200, b"stale", b"500")
    world.clock.advance(1000)
    with pytest.raises(Unavailable):
        await world.ask()
    assert world.ctx.stale is None


async def test_a_stream_is_kept_and_answered_in_either_form(world: World) -> None:
    stream = await world.stream(WHOLE[:30], WHOLE[30:])
    stream.finish()
    await asyncio.sleep(0)
    whole = msgspec.json.decode((await world.ask()).body)
    assert whole["choices"][0]["message"]["content"] == "hi"
    assert whole["usage"]["total_tokens"] == 6
    again = await world.ask(stream=True)
    assert again.header(b"content-type") == b"text/event-stream"
    assert again.body.endswith(b"data: [DONE]\n\n")
    assert b'"usage"' not in again.body
    counted = await world.ask(stream=True, stream_options={"include_usage": True})
    assert b'"usage":null' in counted.body
    assert b'"total_tokens":6' in counted.body
    assert len(world.calls) == 1


async def test_a_whole_answer_is_answered_as_a_stream(world: World) -> None:
    await world.ask()
    again = await world.ask(stream=True)
    assert how(again) == b"hit"
    assert b'"delta":{"role":"assistant","content":"hi"}' in again.body


@pytest.mark.parametrize("cut", range(len(WHOLE) + 1))
@pytest.mark.parametrize("end", ["cancel", "fail", "finish"])
async def test_a_stream_cut_anywhere_is_not_kept(world: World, cut: int, end: str) -> None:
    stream = await world.stream(WHOLE[:cut])
    {"cancel": stream.cancel, "finish": stream.finish, "fail": lambda: stream.fail(StreamStalled("x"))}[end]()
    await asyncio.sleep(0)
    whole = cut == len(WHOLE) and end == "finish"
    assert world.store.entry_count == whole
    world.answer = answer("second")
    second = await world.ask()  # and nobody waits for it any more
    assert how(second) == (b"hit" if whole else b"miss")


async def test_many_that_ask_the_same_wait_for_one(world: World) -> None:
    world.gate = asyncio.Event()
    asking = [asyncio.create_task(world.ask()) for _ in range(20)]
    await asyncio.sleep(0.01)
    assert len(world.calls) == 1
    world.gate.set()
    answers = await asyncio.gather(*asking)
    assert sorted(how(one) or b"" for one in answers) == [b"hit"] * 19 + [b"miss"]
    assert len(world.calls) == 1


async def test_those_who_wait_go_on_when_the_first_one_leaves(world: World) -> None:
    world.gate = asyncio.Event()
    first, second = asyncio.create_task(world.ask()), asyncio.create_task(world.ask())
    await asyncio.sleep(0.01)
    first.cancel()
    world.gate.set()
    assert how(await second) == b"miss"
    assert len(world.calls) == 2


async def test_nobody_waits_for_ever(make_ctx, clock, log) -> None:
    world = World(make_ctx, clock, log)
    world.cache = AnswerCache(world.store, lambda alias, path: MODEL, clock, log, follow=0.01)
    await world.store.start()
    world.gate = asyncio.Event()
    first, second = asyncio.create_task(world.ask()), asyncio.create_task(world.ask())
    await asyncio.sleep(0.05)
    assert len(world.calls) == 2
    world.gate.set()
    await asyncio.gather(first, second)


async def test_a_store_that_is_away_costs_no_answer(world: World) -> None:
    await world.store.stop()
    assert how(await world.ask()) == b"miss"
    await asyncio.sleep(0)
    assert ("cache", "unavailable") in [decision[:2] for decision in world.ctx.decisions]
    assert world.log.lines[0][0] == "warning"


async def test_a_store_that_tells_of_itself_is_not_told_of_for_each_request(
    world: World, monkeypatch
) -> None:
    async def away(*words: object, **how: object) -> None:
        raise StoreAway("redis is away")

    for name in ("get", "set", "add", "delete"):
        monkeypatch.setattr(world.store, name, away)
    for _ in range(3):
        assert how(await world.ask()) == b"miss"
        await asyncio.sleep(0)
    assert world.log.lines == []


async def test_what_is_too_large_is_not_kept(make_ctx, clock, log) -> None:
    world = World(make_ctx, clock, log)
    world.cache = AnswerCache(world.store, lambda alias, path: MODEL, clock, log, largest=100)
    await world.store.start()
    assert how(await world.ask()) == b"miss"
    (await world.stream(WHOLE * 2)).finish()
    await asyncio.sleep(0)
    assert world.store.entry_count == 0


async def test_an_entry_that_cannot_be_read_is_none(world: World) -> None:
    await world.ask()
    (key,) = world.store._entries
    await world.store.set(key, b"\xc1", ttl=100)
    assert how(await world.ask()) == b"miss"


async def test_stop_ends_renewals(world: World) -> None:
    await world.ask()
    world.clock.advance(120)
    world.gate = asyncio.Event()
    await world.ask()
    await world.cache.stop()
    assert world.cache._flights == {}
