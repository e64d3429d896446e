"""Both stages around answers of every kind and end: what is let through, told, held and settled."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from moonpool.adapters.limits.memory import MemoryLimits
from moonpool.contracts.config import LimitConfig
from moonpool.contracts.manifest import Access, Route
from moonpool.contracts.usage import Usage
from moonpool.core.body import Stream
from moonpool.core.clock import ManualClock
from moonpool.core.decisions import Flag
from moonpool.core.errors import BadRequest, StreamStalled, Throttled
from moonpool.core.handler import Handler, chain
from moonpool.core.message import Request, Response
from moonpool.core.principal import ANONYMOUS
from moonpool.middleware.limit_rules import LimitRules
from moonpool.middleware.metering import PROGRESS_EVERY, Metering
from moonpool.middleware.rate_limit import RequestLimit, TokenLimit
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest
from moonpool.ports.limits import Verdict

ROUTE = Route(method="POST", path="/v1/chat/completions", schema="ChatCompletionRequest", metered=True)
TEXT = b'data: {"choices":[{"delta":{"content":"hi"}}],"usage":null}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = TEXT + TEXT + USAGE + DONE
JSON = b'{"usage":{"prompt_tokens":10,"completion_tokens":3}}'
REQUESTS, TOKENS, PLACES = "requests:key:key_1", "tokens:key:key_1", "concurrent:key:key_1"


def limit(**numbers: int) -> dict[str, LimitConfig]:
    return {"default": LimitConfig(**numbers)}


class World:
    """Both stages, and metering, around a handler."""

    def __init__(self, make_ctx: Callable[..., Any], clock: ManualClock, journal: Any) -> None:
        self.limits = MemoryLimits(clock)
        self.clock = clock
        self.rules = LimitRules({})
        self.make_ctx = make_ctx
        self.journal = journal
        self.count = 0
        self.last: Any = None

    async def ask(
        self, answer: Any, *, max_tokens: int = 50, stream: bool = False, **fields: Any
    ) -> Response:
        """`answer`: a Response, an error, or a handler."""
        body = msgspec.json.encode(
            {
                "model": "m",
                "max_tokens": max_tokens,
                "stream": stream,
                "messages": [{"role": "user", "content": "x"}],
            }
        )
        payload = parse(ChatCompletionRequest, body)
        self.count += 1
        ctx = self.last = self.make_ctx(
            payload=payload, model=payload.model, route=ROUTE, request_id=f"req_{self.count}", **fields
        )

        async def end(ctx: Any, request: Request) -> Response:
            if isinstance(answer, BaseException):
                raise answer
            return answer

        handler: Handler = answer if callable(answer) else end
        stages = [RequestLimit(self.rules, self.limits), TokenLimit(self.rules, self.limits)]
        request = Request("POST", ROUTE.path, body=body, peer="192.0.2.7")
        return await chain([*stages, Metering(self.journal)], handler)(ctx, request)

    @property
    def idle(self) -> bool:
        limits = self.limits
        return (limits.leases, limits.places(PLACES), limits.reserved(TOKENS)) == (0, 0, 0)

    def tokens_left(self) -> int:
        (rate,) = self.rules.caller(self.last.principal).tokens
        verdict = self.limits.take("probe", (), (), (rate,), 0)
        self.limits.settle(verdict, 0)
        return verdict.remaining


@pytest.fixture
def world(make_ctx, clock, journal) -> World:
    return World(make_ctx, clock, journal)


def ok() -> Response:
    return Response(200, [(b"content-type", b"application/json")], JSON)


def streamed() -> tuple[Response, Stream]:
    stream = Stream()
    return Response(200, [(b"content-type", b"text/event-stream")], stream), stream


def test_where_they_apply(world: World) -> None:
    requests, tokens = RequestLimit(world.rules, world.limits), TokenLimit(world.rules, world.limits)
    assert requests.applies(ROUTE)
    assert tokens.applies(ROUTE)
    assert not requests.applies(Route(method="GET", path="/livez", quiet=True))
    assert requests.applies(Route(method="GET", path="/", access=Access.PUBLIC))
    assert not requests.applies(Route(method="GET", path="/admin/requests", access=Access.ADMIN))
    assert not tokens.applies(Route(method="GET", path="/api/me", access=Access.KEY))


@pytest.mark.parametrize("error", [BadRequest("no"), Throttled("later"), ValueError("a bug")])
async def test_an_error_tells_it_too(world: World, error: Exception) -> None:
    world.rules.update(limit(requests_per_minute=60, tokens_per_minute=1000, concurrent=4))
    with pytest.raises(type(error)):
        await world.ask(error)
    fields = world.last.error_fields
    assert [name for name, _ in fields] == [b"ratelimit-policy", b"ratelimit"] * 2
    assert fields[3] == (b"ratelimit", b'"requests";r=59;t=1')


async def test_an_answer_tells_where_its_caller_stands(world: World) -> None:
    world.rules.update(limit(requests_per_minute=60, tokens_per_minute=1000, concurrent=4))
    response = await world.ask(ok())
    fields = [value for name, value in response.headers if name == b"ratelimit"]
    policies = [value for name, value in response.headers if name == b"ratelimit-policy"]
    assert fields[1] == b'"requests";r=59;t=1'
    assert fields[0].startswith(b'"tokens";r=9')
    assert policies == [
        b'"tokens";q=1000;w=60;qu="tokens"',
        b'"requests";q=60;w=60, "concurrent";q=4;qu="concurrent-requests"',
    ]
    assert [decision[:2] for decision in world.last.decisions] == [
        ("rate_limit", "allow"),
        ("rate_limit", "reserve"),
    ]


async def test_too_many_requests(world: World) -> None:
    world.rules.update(limit(requests_per_minute=2))
    for _ in range(2):
        assert (await world.ask(ok())).status == 200
    refused = await world.ask(BadRequest("never reached"))
    assert refused.status == 429
    error = msgspec.json.decode(refused.body)["error"]
    assert error["code"] == "rate_limit_exceeded"
    assert error["type"] == "rate_limit_error"
    assert "2 requests per minute" in error["message"]
    assert refused.header(b"retry-after") == b"30"
    assert int(refused.header(b"retry-after-ms") or b"0") == pytest.approx(30_000, abs=100)
    assert refused.header(b"ratelimit") == b'"requests";r=0;t=30'
    assert refused.header(b"ratelimit-policy") is not None
    assert world.last.flags == [Flag.RATE_LIMITED]
    assert world.last.decisions[0][:2] == ("rate_limit", "refuse")
    world.clock.advance(30)
    assert (await world.ask(ok())).status == 200


async def test_too_many_at_once_until_a_body_ends(world: World, sink) -> None:
    world.rules.update(limit(concurrent=1))
    response, stream = streamed()
    await world.ask(response, stream=True)
    refused = await world.ask(ok())
    assert refused.status == 429
    assert b"1 requests at a time" in refused.body
    stream.connect(sink)
    stream.feed(WHOLE)
    assert (await world.ask(ok())).status == 429
    stream.finish()
    assert (await world.ask(ok())).status == 200
    assert world.idle


async def test_tokens_are_settled_on_the_true_usage(world: World) -> None:
    world.rules.update(limit(tokens_per_minute=1000))
    await world.ask(ok(), max_tokens=900)
    assert world.tokens_left() == 1000 - 13
    assert world.idle


async def test_tokens_are_reserved_meanwhile(world: World) -> None:
    world.rules.update(limit(tokens_per_minute=1000))

    async def look(ctx: Any, request: Request) -> Response:
        assert 900 < world.limits.reserved(TOKENS) < 960
        assert (await world.ask(ok(), max_tokens=100)).status == 429
        return ok()

    assert (await world.ask(look, max_tokens=900)).status == 200
    assert world.idle


async def test_a_stream_is_charged_as_it_comes_and_settled_at_its_end(world: World, sink) -> None:
    world.rules.update(limit(tokens_per_minute=1000))
    response, stream = streamed()
    await world.ask(response, max_tokens=100, stream=True)
    stream.connect(sink)
    before = world.limits.reserved(TOKENS)
    stream.feed(TEXT * PROGRESS_EVERY)
    assert world.limits.reserved(TOKENS) == before - PROGRESS_EVERY
    stream.feed(USAGE + DONE)
    stream.finish()
    assert world.tokens_left() == 1000 - 13
    assert world.idle


async def test_a_stream_beyond_its_reservation_is_not_cut_but_owed(world: World, sink) -> None:
    world.rules.update(limit(tokens_per_minute=100))
    response, stream = streamed()
    await world.ask(response, max_tokens=1, stream=True)
    stream.connect(sink)
    stream.feed(TEXT * 320)
    assert sink.data == TEXT * 320
    refused = await world.ask(ok(), max_tokens=1)
    assert refused.status == 429
    assert int(refused.header(b"retry-after") or 0) > 120
    stream.cancel()
    assert world.idle


@pytest.mark.parametrize("cut", range(0, len(WHOLE) + 1, 1))
@pytest.mark.parametrize("end", ["cancel", "fail", "finish"])
async def test_nothing_is_held_wherever_a_stream_ends(world: World, sink, cut: int, end: str) -> None:
    world.rules.update(limit(tokens_per_minute=1000))
    response, stream = streamed()
    await world.ask(response, stream=True)
    stream.connect(sink)
    stream.feed(WHOLE[:cut])
    {"cancel": stream.cancel, "finish": stream.finish, "fail": lambda: stream.fail(StreamStalled("x"))}[end]()
    assert world.idle
    usage = world.last.usage
    assert world.tokens_left() == 1000 - usage.prompt_tokens - usage.completion_tokens
    ((_, event),) = world.journal.closed
    assert msgspec.json.decode(event)["usage"] == msgspec.to_builtins(usage)


@pytest.mark.parametrize(
    "answer", [BadRequest("x"), ValueError("x"), asyncio.CancelledError(), Response(503, [], b"{}")]
)
async def test_what_fails_costs_no_tokens(world: World, answer: Any) -> None:
    world.rules.update(limit(tokens_per_minute=1000, requests_per_minute=10))
    if isinstance(answer, Response):
        await world.ask(answer)
    else:
        with pytest.raises(type(answer)):
            await world.ask(answer)
    assert world.idle
    assert world.tokens_left() == 1000


async def test_a_stream_that_nobody_reads_is_given_back_when_it_is_left(world: World) -> None:
    response, stream = streamed()
    await world.ask(response, stream=True)
    assert world.limits.places(PLACES) == 1
    stream.cancel()
    assert world.idle


async def test_a_prompt_that_can_never_pass(world: World) -> None:
    world.rules.update(limit(tokens_per_minute=10))
    refused = await world.ask(ok())
    assert refused.status == 429
    assert refused.header(b"x-should-retry") == b"false"
    assert refused.header(b"retry-after") is None
    assert b"too large" in refused.body
    assert world.idle


async def test_limits_of_a_model_come_with_the_tokens(world: World) -> None:
    world.rules.update({"model:m": LimitConfig(requests_per_minute=1, concurrent=9)})
    response = await world.ask(ok())
    assert response.status == 200
    policy = response.header(b"ratelimit-policy") or b""
    assert b'"requests-model";q=1' in policy
    refused = await world.ask(ok())
    assert refused.status == 429
    assert b"of this model" in refused.body
    assert world.idle
    assert world.limits.reserved(TOKENS) == 0


async def test_those_without_limits_pass_untouched(world: World) -> None:
    response = await world.ask(ok(), principal=ANONYMOUS)
    assert response.header(b"ratelimit") is None
    assert world.limits.buckets == 0


async def test_addresses_are_limited_without_a_caller(world: World) -> None:
    world.rules.update({"address:*": LimitConfig(requests_per_minute=1)})
    assert (await world.ask(ok(), principal=ANONYMOUS)).status == 200
    refused = await world.ask(ok(), principal=ANONYMOUS)
    assert b"of this address" in refused.body


class Remote:
    """A store that answers after a trip."""

    def __init__(self, limits: MemoryLimits) -> None:
        self._limits = limits
        self.use, self.settle = limits.use, limits.settle

    async def take(self, *arguments: Any) -> Verdict:
        await asyncio.sleep(0)
        return self._limits.take(*arguments)


async def test_a_store_elsewhere(world: World) -> None:
    world.rules.update(limit(requests_per_minute=1))
    stages = [RequestLimit(world.rules, Remote(world.limits)), TokenLimit(world.rules, Remote(world.limits))]  # type: ignore[arg-type]

    async def end(ctx: Any, request: Request) -> Response:
        ctx.usage = Usage(prompt_tokens=4)
        return ok()

    payload = parse(ChatCompletionRequest, b'{"model":"m","messages":[{"role":"user","content":"x"}]}')
    ctxs = [world.make_ctx(payload=payload, route=ROUTE, request_id=f"req_{n}") for n in range(20)]
    request = Request("POST", ROUTE.path, body=b"{}")
    answers = await asyncio.gather(*(chain(stages, end)(ctx, request) for ctx in ctxs))
    assert sorted(answer.status for answer in answers) == [200] + [429] * 19
    assert world.idle
