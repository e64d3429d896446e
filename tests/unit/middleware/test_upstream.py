"""What a service sees of a request, and what it may never see."""

from random import Random
from typing import Any

import pytest

from moonpool.balancing.api import ApiBalancer
from moonpool.balancing.pools import Pools
from moonpool.balancing.services import Services
from moonpool.contracts.context import HEADER, verify
from moonpool.contracts.resilience import BreakerPolicy
from moonpool.core.body import Stream
from moonpool.core.errors import CircuitOpen
from moonpool.core.message import Request, Response
from moonpool.middleware.answered import Answered
from moonpool.middleware.attempt import Attempts
from moonpool.middleware.breakers import Breakers
from moonpool.middleware.signing import ContextSigner
from moonpool.middleware.upstream import ServiceUpstream
from moonpool.ports.discovery import Instance, Topology

KEY = b"k" * 32
SECRETS = (
    b"authorization",
    b"cookie",
    b"proxy-authorization",
    b"x-api-key",
    b"x-moonpool-context",
    b"x-moonpool-anything",
    b"x-forwarded-for",
    b"host",
    b"x-request-id",
    b"transfer-encoding",
)


@pytest.fixture
def pools() -> Pools:
    pools = Pools()
    one = Instance(
        name="chat", release="v2", instance="chat-0", pid=1, state="ready", endpoint="unix:/run/chat.sock"
    )
    pools.update(Topology(1, (one,)))
    return pools


@pytest.fixture
def ask(pools, client, clock, make_ctx):
    """Asks chat's only tier in the name of a context."""
    attempts = Attempts(client, Breakers(BreakerPolicy(jitter=0.0), lambda: 0.5))

    async def ask(ctx: Any, request: Request, keys: dict[str, bytes] | None = None) -> Response:
        signer = ContextSigner("gateway", {"chat": KEY} if keys is None else keys, clock)
        (ctx.tier,) = Services(pools).tiers("chat")
        balancer = ApiBalancer(clock, Random(1))
        return await ServiceUpstream("chat", balancer=balancer, attempts=attempts, signer=signer)(
            ctx, request
        )

    return ask


async def test_no_secret_of_the_client_s_goes_on(make_ctx, ask, client, clock) -> None:
    headers = dict.fromkeys(SECRETS, b"SECRET") | {b"accept": b"text/html", b"range": b"bytes=0-1"}
    ctx = make_ctx(trace_state="a=b")
    await ask(ctx, Request("GET", "/api/x", "q=1", headers, b"body"))
    ((address, sent, _),) = client.sent
    assert str(address) == "unix:/run/chat.sock"
    assert (sent.method, sent.path, sent.query, sent.body) == ("GET", "/api/x", "q=1", b"body")
    assert b"SECRET" not in b"".join(sent.headers.values())
    assert sent.headers[b"accept"] == b"text/html"
    assert sent.headers[b"range"] == b"bytes=0-1"
    assert sent.headers[b"x-request-id"] == b"req_1"
    assert sent.headers[b"traceparent"] == b"00-%b-%bc-00" % (b"a" * 32, b"b" * 15)  # the attempt's own span
    assert sent.headers[b"tracestate"] == b"a=b"
    context = verify(KEY, sent.headers[HEADER], audience="chat", now=clock.time())
    assert (context.principal, context.issuer) == (ctx.principal, "gateway")


async def test_without_a_trace_there_is_no_trace_header(make_ctx, ask, client) -> None:
    await ask(make_ctx(trace_id="", span_id=""), Request("GET", "/"))
    assert b"traceparent" not in client.sent[0][1].headers


@pytest.mark.parametrize(("body", "kept"), [(b"x", False), (Stream(), True)])
async def test_a_streamed_body_s_length_goes_on(make_ctx, ask, client, body, kept: bool) -> None:
    await ask(make_ctx(), Request("POST", "/", headers={b"content-length": b"9"}, body=body))
    assert (b"content-length" in client.sent[0][1].headers) == kept


async def test_the_answer_names_the_release(make_ctx, ask, client) -> None:
    ctx = make_ctx()
    response = await ask(ctx, Request("GET", "/"))
    assert response.header(b"x-moonpool-release") == b"chat@v2"
    assert ctx.release == "v2"
    assert ctx.trace()[0][:3] == ("balancer", "chat-0", "")


async def test_a_service_that_may_not_be_called_costs_no_lease(make_ctx, ask, pools) -> None:
    with pytest.raises(KeyError):
        await ask(make_ctx(), Request("GET", "/"), keys={})
    assert pools.endpoints("chat")[0].active == 0


async def test_the_lease_is_back_after_the_answer(make_ctx, ask, pools, client) -> None:
    client.answer = Response(200)
    await ask(make_ctx(), Request("GET", "/"))
    (endpoint,) = pools.endpoints("chat")
    assert (endpoint.active, endpoint.served) == (0, 1)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("status", "bettered"),
    [
        *[(status, False) for status in (200, 302, 404, 429, 501)],
        *[(status, True) for status in (500, 502, 503, 504)],
    ],
)
async def test_what_another_instance_may_do_better(
    make_ctx, ask, pools, client, status: int, bettered: bool, streamed: bool
) -> None:
    """A service's 429 is its verdict on the caller."""
    client.answer = Response(status, [(b"retry-after", b"3")], b"words")
    if streamed:
        body = client.stream(status=status)
        client.answer.headers.append((b"retry-after", b"3"))
        body.feed(b"words")
        body.finish()
    if bettered:
        with pytest.raises(Answered) as raised:
            await ask(make_ctx(), Request("GET", "/"))
        assert (raised.value.response.body, raised.value.retry_after) == (b"words", 3.0)
        assert raised.value.release == "v2"
    else:
        response = await ask(make_ctx(), Request("GET", "/"))
        assert response.status == status
        if isinstance(response.body, Stream):
            response.body.cancel()
        else:
            assert response.body == b"words"
    assert pools.endpoints("chat")[0].active == 0


async def test_a_service_that_has_failed_too_often_is_left_alone(make_ctx, ask, client) -> None:
    client.answer = Response(500)
    for _ in range(5):
        with pytest.raises(Answered):
            await ask(make_ctx(), Request("GET", "/"))
    client.sent.clear()
    with pytest.raises(CircuitOpen) as raised:
        await ask(make_ctx(), Request("GET", "/"))
    assert raised.value.retry_after == 5.0
    assert client.sent == []
