"""One attempt: whatever comes of it, the lease comes back once and the record says what happened."""

import asyncio

import pytest

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.lease import Lease
from moonpool.contracts.manifest import Timeouts
from moonpool.core.deadline import Deadline
from moonpool.core.decisions import Flag
from moonpool.core.errors import (
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
from moonpool.middleware.attempt import PROGRESS, attempt

TIMEOUTS = Timeouts(total=60.0, connect=2.0, first_byte=30.0, between_bytes=20.0)


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint(Address.parse("unix:/run/a.sock"), instance="a-0", release="v1")


@pytest.fixture
def try_it(client, endpoint, clock):
    async def call(ctx, whole: bool = False) -> Response:
        lease = Lease(endpoint, clock, prompt=10, tokens=100)
        return await attempt(client, ctx, endpoint, Request("GET", "/"), TIMEOUTS, lease, whole=whole)

    return call


def idle(endpoint: Endpoint) -> bool:
    return (endpoint.active, endpoint.tokens, endpoint.queued_tokens) == (0, 0, 0)


@pytest.mark.parametrize(
    ("status", "blamed"), [(200, False), (404, False), (429, False), (500, True), (503, True)]
)
async def test_a_whole_answer(make_ctx, try_it, client, endpoint, clock, status: int, blamed: bool) -> None:
    ctx = make_ctx()
    client.answer = Response(status)
    assert (await try_it(ctx)).status == status
    assert idle(endpoint)
    assert (endpoint.penalty(clock.monotonic()) > 0) == blamed
    (record,) = ctx.attempts
    assert (record.endpoint, record.release, record.status, record.error) == ("a-0", "v1", status, None)
    assert record.ended is not None


async def test_the_time_limits_are_the_route_s_within_the_deadline(make_ctx, try_it, client, clock) -> None:
    await try_it(make_ctx())
    await try_it(make_ctx(deadline=Deadline.after(clock.monotonic(), 5.0)))
    first, second = (timeouts for _, _, timeouts in client.sent)
    assert first == {"connect_timeout": 2.0, "first_byte_timeout": 30.0, "idle_timeout": 20.0}
    assert second["first_byte_timeout"] == 5.0


async def test_too_late_to_begin(make_ctx, try_it, client, endpoint, clock) -> None:
    """Says nothing about the endpoint, which was not asked; and leaks no lease."""
    ctx = make_ctx(deadline=Deadline(clock.monotonic()))
    with pytest.raises(DeadlineExceeded):
        await try_it(ctx)
    assert client.sent == []
    assert idle(endpoint)
    assert endpoint.penalty(clock.monotonic()) == 0
    assert "deadline" in ctx.attempts[0].error


@pytest.mark.parametrize(
    ("error", "flag"),
    [
        (ConnectFailed("x"), Flag.UPSTREAM_CONNECT_FAILED),
        (ConnectionReset("x"), Flag.UPSTREAM_RESET),
        (FirstByteTimeout("x"), Flag.FIRST_TOKEN_TIMEOUT),
        (StreamTruncated("x"), Flag.TRUNCATED),
        (StreamStalled("x"), Flag.STALL),
        (UpstreamMalformed("x"), None),
    ],
)
async def test_failures(make_ctx, try_it, client, endpoint, clock, error: UpstreamError, flag) -> None:
    ctx = make_ctx()
    client.answer = error
    with pytest.raises(type(error)):
        await try_it(ctx)
    assert idle(endpoint)
    assert endpoint.penalty(clock.monotonic()) > 0
    assert ctx.flags == ([flag] if flag else [])
    assert ctx.attempts[0].error == "x"
    assert ctx.trace()[-1].verdict == "failed"


async def test_a_client_that_leaves_before_the_answer(make_ctx, try_it, client, endpoint, clock) -> None:
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
    assert ctx.attempts[0].error == "cancelled"


async def test_an_unforeseen_error_leaks_nothing(make_ctx, try_it, client, endpoint) -> None:
    client.answer = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await try_it(make_ctx())
    assert idle(endpoint)


async def test_a_stream_is_held_to_its_end(make_ctx, try_it, client, endpoint, clock, sink) -> None:
    ctx = make_ctx()
    body = client.stream()
    await try_it(ctx)
    body.connect(sink)
    assert (endpoint.active, endpoint.queued_tokens, endpoint.tokens) == (1, 10, 100)
    clock.advance(0.5)
    body.feed(b"x")
    assert (endpoint.queued_tokens, endpoint.prefill_rate) == (0, 20.0)
    for _ in range(PROGRESS):
        body.feed(b"x")
    assert endpoint.tokens == 100 - PROGRESS
    clock.advance(0.5)
    body.finish()
    assert idle(endpoint)
    assert endpoint.latency(clock.monotonic()) == 1.0
    assert ctx.attempts[0].ended == clock.monotonic()


@pytest.mark.parametrize(
    ("end", "blamed", "told", "flags"),
    [
        (lambda body: body.cancel(), False, "cancelled", []),
        (lambda body: body.fail(StreamStalled("silent")), True, "silent", [Flag.STALL]),
        (lambda body: body.fail(StreamTruncated("cut")), True, "cut", [Flag.TRUNCATED]),
    ],
)
async def test_a_stream_that_breaks_off(
    make_ctx, try_it, client, endpoint, clock, sink, end, blamed: bool, told: str, flags
) -> None:
    ctx = make_ctx()
    body = client.stream()
    await try_it(ctx)
    body.connect(sink)
    body.feed(b"x")
    end(body)
    assert idle(endpoint)
    assert (endpoint.penalty(clock.monotonic()) > 0) == blamed
    assert ctx.attempts[0].error == told
    assert ctx.flags == flags


async def test_a_stream_that_nobody_reads_is_given_back_when_it_is_cancelled(
    make_ctx, try_it, client, endpoint
) -> None:
    body = client.stream()
    await try_it(make_ctx())
    body.cancel()
    assert idle(endpoint)


async def test_a_streamed_refusal_blames_the_endpoint(
    make_ctx, try_it, client, endpoint, clock, sink
) -> None:
    body = client.stream(status=500)
    await try_it(make_ctx())
    body.connect(sink)
    body.finish()
    assert endpoint.penalty(clock.monotonic()) > 0


@pytest.mark.parametrize(
    ("streamed", "status", "whole", "measured"),
    [
        (True, 200, False, True),
        (True, 200, True, False),  # with the answer comes the time of its decoding
        (True, 429, False, False),  # a quick refusal must not look like a quick prefill, and draw traffic
        (False, 429, False, False),
        (False, 200, True, False),
    ],
)
async def test_only_a_first_token_tells_the_prefill_rate(
    make_ctx, try_it, client, endpoint, clock, sink, streamed: bool, status: int, whole: bool, measured: bool
) -> None:
    client.answer = Response(status)
    body = client.stream(status=status) if streamed else None
    await try_it(make_ctx(), whole)
    if body is not None:
        body.connect(sink)
        clock.advance(0.1)
        body.feed(b"x")
        body.finish()
    assert idle(endpoint)
    assert (endpoint.prefill_rate > 0) == measured
