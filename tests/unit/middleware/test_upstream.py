"""What a service sees of a request, and what it may never see."""

from random import Random

import pytest

from moonpool.balancing.api import ApiBalancer
from moonpool.balancing.pools import Pools
from moonpool.contracts.context import HEADER, verify
from moonpool.core.body import Stream
from moonpool.core.errors import Unavailable
from moonpool.core.message import Request, Response
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
def upstream(pools, client, clock):
    def make(keys: dict[str, bytes] | None = None) -> ServiceUpstream:
        signer = ContextSigner("gateway", {"chat": KEY} if keys is None else keys, clock)
        return ServiceUpstream(
            "chat", pools=pools, balancer=ApiBalancer(clock, Random(1)), client=client, signer=signer
        )

    return make


async def test_no_secret_of_the_client_s_goes_on(make_ctx, upstream, client, clock) -> None:
    headers = dict.fromkeys(SECRETS, b"SECRET") | {b"accept": b"text/html", b"range": b"bytes=0-1"}
    ctx = make_ctx(trace_state="a=b")
    await upstream()(ctx, Request("GET", "/api/x", "q=1", headers, b"body"))
    ((address, sent, _),) = client.sent
    assert str(address) == "unix:/run/chat.sock"
    assert (sent.method, sent.path, sent.query, sent.body) == ("GET", "/api/x", "q=1", b"body")
    assert b"SECRET" not in b"".join(sent.headers.values())
    assert sent.headers[b"accept"] == b"text/html"
    assert sent.headers[b"range"] == b"bytes=0-1"
    assert sent.headers[b"x-request-id"] == b"req_1"
    assert sent.headers[b"traceparent"] == b"00-%b-%b-00" % (b"a" * 32, b"b" * 16)
    assert sent.headers[b"tracestate"] == b"a=b"
    context = verify(KEY, sent.headers[HEADER], audience="chat", now=clock.time())
    assert (context.principal, context.issuer) == (ctx.principal, "gateway")


async def test_without_a_trace_there_is_no_trace_header(make_ctx, upstream, client) -> None:
    await upstream()(make_ctx(trace_id="", span_id=""), Request("GET", "/"))
    assert b"traceparent" not in client.sent[0][1].headers


@pytest.mark.parametrize(("body", "kept"), [(b"x", False), (Stream(), True)])
async def test_a_streamed_body_s_length_goes_on(make_ctx, upstream, client, body, kept: bool) -> None:
    await upstream()(make_ctx(), Request("POST", "/", headers={b"content-length": b"9"}, body=body))
    assert (b"content-length" in client.sent[0][1].headers) == kept


async def test_the_answer_names_the_release(make_ctx, upstream, client) -> None:
    ctx = make_ctx()
    response = await upstream()(ctx, Request("GET", "/"))
    assert response.header(b"x-moonpool-release") == b"chat@v2"
    assert ctx.release == "v2"
    assert ctx.trace()[0][:3] == ("balancer", "chat-0", "")


async def test_no_instance(make_ctx, upstream, pools, client) -> None:
    pools.update(Topology(2, ()))
    with pytest.raises(Unavailable):
        await upstream()(make_ctx(), Request("GET", "/"))
    assert client.sent == []


async def test_a_service_that_may_not_be_called_costs_no_lease(make_ctx, upstream, pools) -> None:
    with pytest.raises(KeyError):
        await upstream(keys={})(make_ctx(), Request("GET", "/"))
    assert pools.endpoints("chat")[0].active == 0


async def test_the_lease_is_back_after_the_answer(make_ctx, upstream, pools, client) -> None:
    client.answer = Response(200)
    await upstream()(make_ctx(), Request("GET", "/"))
    (endpoint,) = pools.endpoints("chat")
    assert (endpoint.active, endpoint.served) == (0, 1)
