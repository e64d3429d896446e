"""One attempt: whatever comes of it, the lease and the permit come back once and the record says what
happened."""

import asyncio

import msgspec
import pytest

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.tiers import Candidate, Tier
from moonpool.contracts.manifest import Timeouts
from moonpool.contracts.resilience import BreakerPolicy
from moonpool.core.body import BUFFER_LIMIT, Outcome, Stream
from moonpool.core.context import Attempt
from moonpool.core.deadline import Deadline
from moonpool.core.decisions import Flag
from moonpool.core.errors import (
    CircuitOpen,
    ConnectFailed,
    ConnectionReset,
    DeadlineExceeded,
    FirstByteTimeout,
    StreamStalled,
    StreamTruncated,
    UpstreamError,
    UpstreamMalformed,
)
from moonpool.core.message import Request, Response
from moonpool.http.address import Address
from moonpool.middleware import attempt as module
from moonpool.middleware.answered import Answered
from moonpool.middleware.attempt import REFUSAL_LIMIT, Attempts, Load
from moonpool.middleware.breakers import Breakers
from moonpool.middleware.circuit_breaker import State, Verdict
from moonpool.middleware.inference import judge_stream

TIMEOUTS = Timeouts(total=60.0, connect=2.0, first_byte=30.0, between_bytes=20.0)
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
TEXT = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'


class Settled:
    """A breaker's permit that remembers how it was settled."""

    def __init__(self, permit, log: list) -> None:
        self._permit, self._log = permit, log

    def answered(self, now: float) -> None:
        self._log.append("answered")
        self._permit.answered(now)

    def succeeded(self, now: float) -> None:
        self._log.append("succeeded")
        self._permit.succeeded(now)

    def failed(self, now: float, verdict: Verdict, retry_after: float | None = None) -> None:
        self._log.append(verdict)
        self._permit.failed(now, verdict, retry_after)

    def neutral(self, now: float) -> None:
        self._log.append("neutral")
        self._permit.neutral(now)


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint(Address.parse("unix:/run/a.sock"), instance="a-0", release="v1")


@pytest.fixture
def breakers() -> Breakers:
    return Breakers(BreakerPolicy(jitter=0.0), lambda: 0.5)


@pytest.fixture
def settled(breakers, endpoint, monkeypatch) -> list:
    """How the permits of the endpoint were settled, in order."""
    log: list = []
    breaker = breakers.of(endpoint)
    give = type(breaker).permit

    def permit(self, now: float):
        permit = give(self, now)
        return None if permit is None else Settled(permit, log)

    monkeypatch.setattr(type(breaker), "permit", permit)
    return log


@pytest.fixture
def try_it(client, endpoint, breakers, settled):
    attempts = Attempts(client, breakers)

    async def call(ctx, *, judge=lambda response: response, timeouts=TIMEOUTS, **how: bool) -> Response:
        return await attempts.make(
            ctx, endpoint, Request("GET", "/"), timeouts, judge, Load(prompt=10, answer=100), **how
        )

    return call


def idle(endpoint: Endpoint) -> bool:
    return (endpoint.active, endpoint.tokens, endpoint.queued_tokens) == (0, 0, 0)


def raising(error: Exception):
    def judge(response: Response) -> Response:
        raise error

    return judge


@pytest.mark.parametrize(
    ("status", "blamed"), [(200, False), (404, False), (429, False), (500, True), (503, True)]
)
async def test_a_whole_answer(
    make_ctx, try_it, client, endpoint, clock, settled, status: int, blamed: bool
) -> None:
    ctx = make_ctx()
    client.answer = Response(status)
    assert (await try_it(ctx)).status == status
    assert idle(endpoint)
    assert (endpoint.penalty(clock.monotonic()) > 0) == blamed
    assert settled == [Verdict.STATUS_5XX if blamed else "succeeded"]
    (record,) = ctx.attempts
    assert (record.endpoint, record.release, record.status, record.error) == ("a-0", "v1", status, None)
    assert record.ended is not None


async def test_the_time_limits_are_the_route_s_within_the_deadline(make_ctx, try_it, client, clock) -> None:
    await try_it(make_ctx())
    await try_it(make_ctx(deadline=Deadline.after(clock.monotonic(), 5.0)))
    first, second = (timeouts for _, _, timeouts in client.sent)
    assert first == {"connect_timeout": 2.0, "first_byte_timeout": 30.0, "idle_timeout": 20.0}
    assert second["first_byte_timeout"] == 5.0


@pytest.mark.parametrize(("whole", "first_byte"), [(0.0, 60.0), (45.0, 45.0)])
async def test_a_whole_answer_may_take_its_own_time(make_ctx, try_it, client, whole, first_byte) -> None:
    timeouts = Timeouts(total=60.0, first_byte=30.0, whole=whole)
    await try_it(make_ctx(), timeouts=timeouts, whole=True)
    assert client.sent[0][2]["first_byte_timeout"] == first_byte


async def test_too_late_to_begin(make_ctx, try_it, client, endpoint, clock, settled) -> None:
    """Says nothing about the endpoint, which was not asked; and leaks no lease."""
    ctx = make_ctx(deadline=Deadline(clock.monotonic()))
    with pytest.raises(DeadlineExceeded):
        await try_it(ctx)
    assert client.sent == []
    assert idle(endpoint)
    assert endpoint.penalty(clock.monotonic()) == 0
    assert settled == ["neutral"]
    assert "deadline" in ctx.attempts[0].error


FAILURES = [
    (ConnectFailed("x"), Flag.UPSTREAM_CONNECT_FAILED, Verdict.CONNECT),
    (ConnectionReset("x"), Flag.UPSTREAM_RESET, Verdict.RESET),
    (FirstByteTimeout("x"), Flag.FIRST_TOKEN_TIMEOUT, Verdict.FIRST_TOKEN),
    (StreamTruncated("x"), Flag.TRUNCATED, Verdict.TRUNCATION),
    (StreamStalled("x"), Flag.STALL, Verdict.STALL),
    (UpstreamMalformed("x"), Flag.MALFORMED, Verdict.TRUNCATION),
    (UpstreamError("x"), None, Verdict.TRUNCATION),
]


@pytest.mark.parametrize(("error", "flag", "verdict"), FAILURES)
@pytest.mark.parametrize("place", ["send", "judge"])
async def test_failures(
    make_ctx, try_it, client, endpoint, clock, settled, place, error: UpstreamError, flag, verdict
) -> None:
    ctx = make_ctx()
    how = {"judge": raising(error)} if place == "judge" else {}
    client.answer = error if place == "send" else Response(200, [], b"x")
    with pytest.raises(type(error)):
        await try_it(ctx, **how)
    assert idle(endpoint)
    assert endpoint.penalty(clock.monotonic()) > 0
    assert settled == [verdict]
    assert ctx.flags == ([flag] if flag else [])
    assert ctx.attempts[0].error == "x"
    assert ctx.attempts[0].ended == clock.monotonic()
    assert ctx.trace()[-1].verdict == "failed"


@pytest.mark.parametrize(
    ("status", "internal", "retry_after", "verdict"),
    [
        (500, True, None, Verdict.STATUS_5XX),
        (503, True, None, Verdict.STATUS_5XX),
        (503, True, 7.0, "neutral"),  # a full queue of ours
        (429, True, 7.0, "neutral"),
        (429, False, 7.0, Verdict.RATE_LIMITED),
        (429, False, None, Verdict.RATE_LIMITED),
        (503, False, 7.0, Verdict.STATUS_5XX),
    ],
)
async def test_a_refusal_that_somebody_else_should_better(
    make_ctx, try_it, client, endpoint, clock, settled, status, internal, retry_after, verdict
) -> None:
    endpoint.internal = internal
    error = Answered(Response(status, [], b"no"), retry_after=retry_after)
    ctx = make_ctx()
    with pytest.raises(Answered) as raised:
        await try_it(ctx, judge=raising(error))
    assert raised.value.release == "v1"
    assert idle(endpoint)
    assert settled == [verdict]


async def test_an_external_endpoint_that_asks_for_a_pause_gets_it(
    make_ctx, try_it, endpoint, breakers, clock
) -> None:
    endpoint.internal = False
    error = Answered(Response(429, [], b"no"), retry_after=7.0)
    with pytest.raises(Answered):
        await try_it(make_ctx(), judge=raising(error))
    assert breakers.of(endpoint).retry_after(clock.monotonic()) == 7.0


async def test_a_client_that_leaves_before_the_answer(
    make_ctx, try_it, client, endpoint, clock, settled
) -> None:
    ctx = make_ctx()
    client.answer = None
    task = asyncio.create_task(try_it(ctx))
    await client.asked.wait()
    assert endpoint.active == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert idle(endpoint)
    assert endpoint.penalty(clock.monotonic()) == 0
    assert settled == ["neutral"]
    assert ctx.attempts[0].error == "cancelled"


@pytest.mark.parametrize(
    ("status", "how"),
    [
        (200, {"streamed": True}),  # before its first content
        (200, {"whole": True}),  # while it is collected
        (500, {}),  # while a refusal is read
        (500, {"streamed": True}),
    ],
)
async def test_a_client_that_leaves_while_the_answer_comes(
    make_ctx, try_it, client, endpoint, clock, settled, status: int, how
) -> None:
    ctx = make_ctx()
    body = client.stream(status=status)
    body.feed(ROLE)
    task = asyncio.create_task(try_it(ctx, **how))
    await client.asked.wait()
    await asyncio.sleep(0)
    assert endpoint.active == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert body.outcome is Outcome.CANCELLED  # the endpoint is told
    assert idle(endpoint)
    assert endpoint.penalty(clock.monotonic()) == 0
    assert settled == ["neutral"]
    assert ctx.attempts[0].error == "cancelled"


async def test_an_unforeseen_error_leaks_nothing(make_ctx, try_it, client, endpoint, settled) -> None:
    client.answer = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await try_it(make_ctx())
    assert idle(endpoint)
    assert settled == ["neutral"]


async def test_a_stream_is_held_to_its_end(make_ctx, try_it, client, endpoint, clock, sink, settled) -> None:
    ctx = make_ctx()
    body = client.stream()
    waiting = asyncio.create_task(try_it(ctx, streamed=True))
    await client.asked.wait()
    assert (endpoint.active, endpoint.queued_tokens, endpoint.tokens) == (1, 10, 100)
    clock.advance(0.5)
    body.feed(TEXT)
    response = await waiting
    assert response.body is body
    body.connect(sink)
    assert (endpoint.queued_tokens, endpoint.prefill_rate) == (0, 20.0)
    ctx.produced(16)  # metering tells what has come
    assert endpoint.tokens == 84
    assert settled == ["answered"]
    clock.advance(0.5)
    body.finish()
    assert idle(endpoint)
    assert settled == ["answered", "succeeded"]
    assert endpoint.latency(clock.monotonic()) == 1.0
    assert ctx.attempts[0].ended == clock.monotonic()
    assert sink.data == TEXT


@pytest.mark.parametrize(
    ("end", "blamed", "told", "flags"),
    [
        (lambda body: body.cancel(), None, "cancelled", []),
        (lambda body: body.fail(StreamStalled("silent")), Verdict.STALL, "silent", [Flag.STALL]),
        (lambda body: body.fail(StreamTruncated("cut")), Verdict.TRUNCATION, "cut", [Flag.TRUNCATED]),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_stream_that_breaks_off(
    make_ctx, try_it, client, endpoint, clock, sink, settled, streamed, end, blamed, told: str, flags
) -> None:
    ctx = make_ctx()
    body = client.stream()
    body.feed(TEXT)
    await try_it(ctx, streamed=streamed)
    body.connect(sink)
    body.feed(TEXT)
    end(body)
    assert idle(endpoint)
    assert (endpoint.penalty(clock.monotonic()) > 0) == (blamed is not None)
    assert settled[-1] == (blamed or "neutral")
    assert len(settled) == (2 if streamed else 1)
    assert ctx.attempts[0].error == told
    assert ctx.flags == flags


@pytest.mark.parametrize("begun", [b"", b": keep-alive\n\n", ROLE, b": keep-alive\n\n" + ROLE])
@pytest.mark.parametrize("late", [True, False])
async def test_a_stream_that_breaks_before_its_content_is_no_answer(
    make_ctx, try_it, client, endpoint, settled, begun: bytes, late: bool
) -> None:
    ctx = make_ctx()
    body = client.stream()
    body.feed(begun)
    if late:
        waiting = asyncio.create_task(try_it(ctx, streamed=True))
        await client.asked.wait()
        await asyncio.sleep(0)
        body.fail(ConnectionReset("gone"))
        with pytest.raises(ConnectionReset):
            await waiting
    else:
        body.fail(ConnectionReset("gone"))
        with pytest.raises(ConnectionReset):
            await try_it(ctx, streamed=True)
    assert idle(endpoint)
    assert settled == [Verdict.RESET]
    assert (ctx.attempts[0].status, ctx.attempts[0].error) == (200, "gone")


@pytest.mark.parametrize("begun", [b"", b": keep-alive\n\n", ROLE])
async def test_a_stream_that_ends_without_content_is_no_answer(
    make_ctx, try_it, client, endpoint, settled, begun: bytes
) -> None:
    body = client.stream()
    if begun:
        body.feed(begun)
    body.finish()
    with pytest.raises(StreamTruncated):
        await try_it(make_ctx(), streamed=True)
    assert idle(endpoint)
    assert settled == [Verdict.TRUNCATION]


@pytest.mark.parametrize("before", [b"", b": keep-alive\n\n", ROLE])
@pytest.mark.parametrize(
    ("error", "status", "verdict"),
    [
        (b'{"message":"too long","code":"context_length_exceeded"}', 400, "succeeded"),
        (b'{"message":"slow down","type":"rate_limit_error"}', 429, Verdict.RATE_LIMITED),
        (b'{"message":"no memory","code":503}', 503, Verdict.STATUS_5XX),
        (b'"no memory"', 500, Verdict.STATUS_5XX),
    ],
)
async def test_a_stream_that_begins_with_an_error_is_the_refusal_it_tells_of(
    make_ctx, try_it, client, endpoint, settled, before: bytes, error: bytes, status: int, verdict
) -> None:
    ctx, body = make_ctx(), client.stream()
    body.feed(before + b'data: {"error":%b}\n\n' % error)
    try:
        response = await try_it(
            ctx, judge=lambda one: one if one.status == 200 else judge_stream(one), streamed=True
        )
    except Answered as refused:
        response = refused.response
        assert status >= 429
    assert response.status == ctx.attempts[0].status == status
    message = msgspec.json.decode(response.body)["error"]["message"]
    assert message.encode() in error
    assert body.outcome is Outcome.CANCELLED
    assert settled == [verdict]
    assert idle(endpoint)


async def test_a_stream_that_is_refused_is_cancelled(make_ctx, try_it, client, endpoint) -> None:
    body = client.stream()
    with pytest.raises(UpstreamMalformed):
        await try_it(make_ctx(), judge=raising(UpstreamMalformed("html")), streamed=True)
    assert body.outcome is Outcome.CANCELLED
    assert idle(endpoint)


async def test_a_stream_that_nobody_reads_is_given_back_when_it_is_cancelled(
    make_ctx, try_it, client, endpoint, settled
) -> None:
    body = client.stream()
    await try_it(make_ctx())
    body.cancel()
    assert idle(endpoint)
    assert settled == ["neutral"]


async def test_a_streamed_refusal_is_read_and_blames_the_endpoint(
    make_ctx, try_it, client, endpoint, clock, settled
) -> None:
    body = client.stream(status=500)
    body.feed(b"no")
    body.finish()
    response = await try_it(make_ctx())
    assert response.body == b"no"
    assert endpoint.penalty(clock.monotonic()) > 0
    assert settled == [Verdict.STATUS_5XX]
    assert idle(endpoint)


@pytest.mark.parametrize("end", ["breaks off", "too long"])
async def test_a_refusal_that_cannot_be_read_is_told_without_its_words(
    make_ctx, try_it, client, endpoint, end: str
) -> None:
    body = client.stream(status=500)
    if end == "breaks off":
        body.feed(b'{"error"')
        body.fail(ConnectionReset("gone"))
    else:
        body.feed(b"x" * (REFUSAL_LIMIT + 1))
    response = await try_it(make_ctx())
    assert (response.status, response.body) == (500, b"")
    assert idle(endpoint)


@pytest.mark.parametrize(
    ("streamed", "status", "how", "measured"),
    [
        (True, 200, {"streamed": True}, True),
        (True, 200, {"whole": True}, False),  # with the answer comes the time of its decoding
        (True, 429, {"streamed": True}, False),  # a quick refusal must not look like a quick prefill
        (False, 429, {}, False),
        (False, 200, {"whole": True}, False),
    ],
)
async def test_only_a_first_token_tells_the_prefill_rate(
    make_ctx, try_it, client, endpoint, clock, sink, streamed: bool, status: int, how, measured: bool
) -> None:
    client.answer = Response(status)
    body = client.stream(status=status) if streamed else None
    waiting = asyncio.create_task(try_it(make_ctx(), **how))
    await client.asked.wait()
    clock.advance(0.1)
    if body is not None:
        body.feed(TEXT)
        body.finish()
    response = await waiting
    if isinstance(response.body, Stream):
        response.body.connect(sink)
    assert idle(endpoint)
    assert (endpoint.prefill_rate > 0) == measured


async def test_a_whole_answer_is_there_when_all_of_it_is(make_ctx, try_it, client, endpoint, settled) -> None:
    body = client.stream(content_type=b"application/json")
    waiting = asyncio.create_task(try_it(make_ctx(), whole=True))
    await client.asked.wait()
    body.feed(b'{"choices"')
    await asyncio.sleep(0)
    assert not waiting.done()
    body.feed(b": []}")
    body.finish()
    assert (await waiting).body == b'{"choices": []}'
    assert idle(endpoint)
    assert settled == ["succeeded"]


async def test_a_whole_answer_that_breaks_off_is_none(make_ctx, try_it, client, endpoint, settled) -> None:
    body = client.stream(content_type=b"application/json")
    body.feed(b'{"choices"')
    body.fail(StreamTruncated("cut"))
    with pytest.raises(StreamTruncated):
        await try_it(make_ctx(), whole=True)
    assert idle(endpoint)
    assert settled == [Verdict.TRUNCATION]


async def test_an_endless_whole_answer_is_malformed(
    make_ctx, try_it, client, endpoint, settled, monkeypatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_LIMIT", 100)
    body = client.stream(content_type=b"application/json")
    body.feed(b"x" * 101)
    with pytest.raises(UpstreamMalformed, match="100 bytes"):
        await try_it(make_ctx(), whole=True)
    assert body.outcome is Outcome.CANCELLED
    assert idle(endpoint)


async def test_a_long_whole_answer_that_says_so_passes_as_it_comes(
    make_ctx, try_it, client, endpoint, monkeypatch, sink, settled
) -> None:
    monkeypatch.setattr(module, "ANSWER_LIMIT", 100)
    body = client.stream(content_type=b"application/json")
    client.answer.headers.append((b"content-length", b"101"))
    response = await try_it(make_ctx(), whole=True)
    assert response.body is body
    assert endpoint.active == 1
    body.connect(sink)
    body.feed(b"x" * 101)
    body.finish()
    assert idle(endpoint)
    assert settled == ["succeeded"]


async def test_a_first_event_that_is_longer_than_can_be_held_is_not_waited_for_for_ever(
    make_ctx, try_it, client, endpoint
) -> None:
    """It may all have come with the head, before anybody has looked."""
    body = client.stream()
    body.feed(ROLE + b"data: " + b"x" * BUFFER_LIMIT)
    async with asyncio.timeout(1):
        try:
            await try_it(make_ctx(), streamed=True)
        except UpstreamMalformed:
            pass  # or it is refused
        else:
            body.cancel()
    assert idle(endpoint)


class TestOpenTo:
    @pytest.fixture
    def pool(self) -> list[Endpoint]:
        return [Endpoint(Address.parse(f"unix:/run/{n}"), instance=f"a-{n}", release="v1") for n in range(4)]

    @pytest.fixture
    def ctx(self, make_ctx, pool):
        return make_ctx(tier=Tier("a", [Candidate(endpoint) for endpoint in pool]))

    @pytest.fixture
    def open_to(self, client, breakers, ctx):
        attempts = Attempts(client, breakers)
        return lambda: [candidate.instance for candidate in attempts.open_to(ctx)]

    def trip(self, breakers, clock, *endpoints: Endpoint, verdict: Verdict = Verdict.CONNECT) -> None:
        for endpoint in endpoints:
            for _ in range(5):
                breakers.of(endpoint).permit(clock.monotonic()).failed(clock.monotonic(), verdict)

    def test_everybody(self, open_to) -> None:
        assert open_to() == ["a-0", "a-1", "a-2", "a-3"]

    def test_not_those_whose_breaker_is_open(self, open_to, breakers, clock, pool) -> None:
        self.trip(breakers, clock, pool[1])
        assert open_to() == ["a-0", "a-2", "a-3"]

    def test_those_not_tried_before_others(self, open_to, ctx, clock) -> None:
        ctx.attempts = [Attempt(name, "v1", clock.monotonic()) for name in ("a-0", "a-2")]
        assert open_to() == ["a-1", "a-3"]

    def test_the_same_again_when_all_were_tried(self, open_to, ctx, clock) -> None:
        ctx.attempts = [Attempt(f"a-{n}", "v1", clock.monotonic()) for n in range(4)]
        assert open_to() == ["a-0", "a-1", "a-2", "a-3"]

    def test_one_that_was_tried_before_one_that_is_open(self, open_to, ctx, breakers, clock, pool) -> None:
        self.trip(breakers, clock, *pool[1:])
        ctx.attempts = [Attempt("a-0", "v1", clock.monotonic())]
        assert open_to() == ["a-0"]

    def test_nobody(self, open_to, ctx, breakers, clock, pool) -> None:
        self.trip(breakers, clock, *pool)
        clock.advance(1.0)
        with pytest.raises(CircuitOpen) as raised:
            open_to()
        assert raised.value.retry_after == 4.0
        assert (raised.value.status, raised.value.code) == (503, "circuit_open")
        assert f" {ctx.tier.name} " in raised.value.detail
        assert f" {ctx.tier.name} " not in raised.value.message
        assert ctx.flags == [Flag.NO_HEALTHY_UPSTREAM]
        assert ctx.trace()[-1][:2] == ("circuit_breaker", "open")

    async def test_in_a_panic_an_ejected_endpoint_s_answer_counts_for_nothing(
        self, open_to, ctx, client, breakers, clock, pool
    ) -> None:
        self.trip(breakers, clock, *pool[:3], verdict=Verdict.RESET)
        assert open_to() == ["a-0", "a-1", "a-2", "a-3"]
        client.answer = Response(200, [], b"x")
        attempts = Attempts(client, breakers)
        await attempts.make(ctx, pool[0], Request("GET", "/"), TIMEOUTS, lambda response: response)
        assert breakers.of(pool[0]).state is State.OPEN
        assert idle(pool[0])


async def test_a_probe_is_given_back_when_its_client_leaves(
    make_ctx, try_it, client, endpoint, breakers, clock
) -> None:
    breaker = breakers.of(endpoint)
    for _ in range(5):
        breaker.permit(clock.monotonic()).failed(clock.monotonic(), Verdict.RESET)
    clock.advance(5.0)
    client.answer = None
    task = asyncio.create_task(try_it(make_ctx()))
    await client.asked.wait()
    assert breaker.probes_in_flight(clock.monotonic()) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert breaker.probes_in_flight(clock.monotonic()) == 0
    client.answer = Response(200)
    await try_it(make_ctx())
    assert breaker.state is State.HALF_OPEN
    assert not breaker.probes_in_flight(clock.monotonic())


async def test_the_first_content_of_a_stream_frees_the_probe(
    make_ctx, try_it, client, endpoint, breakers, clock, sink
) -> None:
    breaker = breakers.of(endpoint)
    for _ in range(5):
        breaker.permit(clock.monotonic()).failed(clock.monotonic(), Verdict.RESET)
    clock.advance(5.0)
    body = client.stream()
    body.feed(TEXT)
    await try_it(make_ctx(), streamed=True)
    body.connect(sink)
    assert breaker.probes_in_flight(clock.monotonic()) == 0
    body.fail(StreamTruncated("cut"))
    assert breaker.state is State.OPEN
