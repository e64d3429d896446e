"""From a tier to an endpoint: what is sent there, and what is charged for it."""

import asyncio

import msgspec
import pytest

from moonpool.contracts.catalogue import Model, Target
from moonpool.contracts.manifest import BalancerKind, Route, Timeouts
from moonpool.core.body import Stream
from moonpool.core.errors import CircuitOpen, NotFound, Unavailable
from moonpool.core.message import Request, Response
from moonpool.middleware.circuit_breaker import Verdict
from moonpool.openai.errors import error_object
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest, EmbeddingRequest

LOCAL = Target(id="local")
REMOTE = Target(id="deepseek", url="https://api.example/v1", model="deepseek-chat", api_key_env="DEEP_KEY")


@pytest.fixture
def serve(layer, said):
    def serve(*targets: Target, instances: int = 0) -> None:
        layer.environment["DEEP_KEY"] = "sk-deep"
        layer.client.answer = said.answer()
        layer.run(*(f"inference-{n}" for n in range(instances)))
        layer.offer(Model(id="m", targets=targets))

    return serve


@pytest.fixture
def begin(layer, said):
    """Ask for a stream, of which the first content has come."""

    async def begin(ctx=None, **fields) -> tuple[Response, Stream]:
        layer.client.answer = said.streaming(said.TEXT)
        response = await layer.model(ctx, stream=True, **fields)
        assert isinstance(response.body, Stream)
        return response, response.body

    return begin


async def test_our_own_instance_gets_the_client_s_bytes_and_the_signed_context(layer, serve) -> None:
    serve(LOCAL, instances=1)
    ctx = layer.model_ctx()
    body = b'{"model": "m",  "temperature":   0.5, "messages": [{"role": "user", "content": "Hi"}]}'
    ctx.payload = parse(ChatCompletionRequest, body)
    ctx.model = "m"
    ctx.tier = layer.models.tiers("m")[0]
    request = Request("POST", "/v1/chat/completions", headers={b"authorization": b"mine"}, body=body)
    response = await layer.inference()(ctx, request)
    ((address, sent, _),) = layer.client.sent
    assert str(address) == "unix:/run/inference-0"
    assert sent.path == "/v1/chat/completions"
    assert sent.body == body
    assert b"x-moonpool-context" in sent.headers
    assert b"authorization" not in sent.headers
    assert ctx.release == "v1"
    assert response.header(b"x-moonpool-release") == b"inference@v1"


async def test_an_external_endpoint_gets_its_own_name_and_key_and_no_context(layer, serve) -> None:
    serve(REMOTE)
    await layer.model(seed=7)
    ((address, sent, _),) = layer.client.sent
    assert str(address) == "https://api.example/v1"
    assert sent.path == "/chat/completions"
    assert sent.headers[b"authorization"] == b"Bearer sk-deep"
    assert b"x-moonpool-context" not in sent.headers
    assert b"x-request-id" not in sent.headers
    body = msgspec.json.decode(sent.body)
    assert (body["model"], body["seed"]) == ("deepseek-chat", 7)


OWN_FIELDS = [(b"set-cookie", b"a"), (b"server", b"x"), (b"x-request-id", b"theirs"), (b"retry-after", b"3")]


@pytest.mark.parametrize("status", [200, 400, 429, 503])
async def test_an_external_endpoint_s_own_fields_stay_there(layer, serve, said, status: int) -> None:
    serve(REMOTE)
    layer.client.answer = said.answer() if status == 200 else said.refusal(status)
    layer.client.answer.headers += OWN_FIELDS
    layer.spend_budget()  # one attempt is enough
    response = await layer.model()
    assert response.status == status
    names = {name for name, _ in response.headers} - {b"x-should-retry"}
    assert names == {b"content-type", b"retry-after", b"x-moonpool-release"}


@pytest.mark.parametrize(
    ("fields", "wanted", "sent_options"),
    [
        ({}, True, None),
        ({"stream": False}, True, None),
        ({"stream": True}, False, {"include_usage": True}),
        ({"stream": True, "stream_options": None}, False, {"include_usage": True}),
        ({"stream": True, "stream_options": {"include_usage": False}}, False, {"include_usage": True}),
        ({"stream": True, "stream_options": {"include_usage": True}}, True, {"include_usage": True}),
        ({"stream": True, "stream_options": {"x": 1}}, False, {"x": 1, "include_usage": True}),
    ],
)
async def test_the_usage_of_streams_is_always_asked_for(
    layer, serve, said, fields, wanted: bool, sent_options
) -> None:
    serve(LOCAL, instances=1)
    if fields.get("stream"):
        layer.client.answer = said.streaming(said.TEXT)
    ctx = layer.model_ctx()
    await layer.model(ctx, **fields)
    assert ctx.usage_wanted == wanted
    assert msgspec.json.decode(layer.client.sent[0][1].body).get("stream_options") == sent_options


async def test_load_is_charged_while_it_lasts_and_the_prefill_rate_is_learnt(
    layer, serve, clock, sink
) -> None:
    serve(LOCAL, instances=1)
    body = layer.client.stream()
    ctx = layer.model_ctx()
    asking = asyncio.create_task(layer.model(ctx, stream=True, max_tokens=40))
    await layer.client.asked.wait()
    (endpoint,) = layer.endpoints
    assert ctx.prompt_tokens > 0
    assert (endpoint.active, endpoint.tokens, endpoint.queued_tokens) == (1, 40, ctx.prompt_tokens)
    clock.advance(0.5)
    body.feed(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n')
    response = await asking
    response.body.connect(sink)
    assert endpoint.prefill_rate == ctx.prompt_tokens / 0.5
    assert endpoint.queued_tokens == 0
    response.body.cancel()
    assert layer.idle


@pytest.mark.parametrize(
    ("streamed", "limit", "first_byte"),
    [
        (False, 7.0, 90.0),  # the head comes with the finished answer
        (True, 7.0, 5.0),  # what the prompt's length allows (the layer's first_token says 5 s)
        (True, 2.0, 2.0),  # at most the route's
    ],
)
async def test_how_long_an_answer_may_take_to_begin(
    layer, serve, said, streamed: bool, limit: float, first_byte: float
) -> None:
    serve(LOCAL, instances=1)
    if streamed:
        layer.client.answer = said.streaming(said.TEXT)
    timeouts = Timeouts(total=90.0, first_byte=limit)
    route = Route(
        method="POST", path="/v1/chat/completions", balancer=BalancerKind.INFERENCE, timeouts=timeouts
    )
    await layer.model(layer.model_ctx(route=route), stream=streamed)
    assert layer.client.sent[0][2]["first_byte_timeout"] == first_byte


async def test_a_missing_key_is_told_and_costs_no_lease(layer, serve) -> None:
    serve(REMOTE)
    del layer.environment["DEEP_KEY"]
    with pytest.raises(Unavailable) as raised:
        await layer.model()
    assert "DEEP_KEY" in raised.value.detail
    assert "DEEP_KEY" not in error_object(raised.value).message
    assert raised.value.code == "target_not_configured"
    assert layer.idle
    assert layer.client.sent == []


async def test_a_target_without_a_key_gets_none(layer, serve) -> None:
    serve(Target(id="ollama", url="http://127.0.0.1:11434/v1"))
    await layer.model()
    sent = layer.client.sent[0][1]
    assert b"authorization" not in sent.headers
    assert msgspec.json.decode(sent.body)["model"] == "m"


async def test_unknown_models_and_missing_instances(layer, serve) -> None:
    serve(LOCAL)
    with pytest.raises(Unavailable, match="no instance"):
        await layer.model()
    layer.offer()
    with pytest.raises(NotFound):
        await layer.model()


async def test_several_instances_are_chosen_among(layer, serve, begin) -> None:
    serve(LOCAL, instances=3)
    bodies = [(await begin())[1] for _ in range(9)]
    assert set(layer.client.asked_of) == {f"inference-{n}" for n in range(3)}
    for body in bodies:
        body.cancel()
    assert layer.idle


async def test_targets_share_by_weight_of_their_own(layer, serve, said) -> None:
    """Of two targets on the same instance, one of weight 0 gets nothing."""
    serve(LOCAL, Target(id="a", url="https://a.example/v1", weight=0), instances=1)
    for _ in range(5):
        layer.client.answer = said.answer()
        await layer.model()
    assert layer.client.asked_of == ["inference-0"] * 5


async def test_one_whose_breaker_is_open_is_not_asked(layer, serve) -> None:
    serve(LOCAL, instances=3)
    layer.open("inference-1")
    for _ in range(6):
        await layer.model()
    assert "inference-1" not in layer.client.asked_of


async def test_nobody_may_be_asked(layer, serve) -> None:
    serve(LOCAL, instances=1)
    layer.open("inference-0")
    with pytest.raises(CircuitOpen) as raised:
        await layer.model()
    assert raised.value.retry_after == 5.0
    assert layer.client.sent == []


async def test_a_refusal_of_our_key_is_our_failure_and_the_breaker_s(layer, serve, said) -> None:
    serve(REMOTE)
    layer.client.answer = said.refusal(401)
    with pytest.raises(Exception, match="key") as raised:
        await layer.model()
    assert raised.value.code == "upstream_refused"
    assert layer.idle
    for _ in range(4):
        with pytest.raises(Exception, match="key"):
            await layer.model()
    assert layer.breakers.of(layer.endpoints[0]).cause is Verdict.TRUNCATION


async def test_embeddings(layer, serve) -> None:
    serve(LOCAL, instances=2)
    body = b'{"model": "m", "input": ["one", "two"]}'
    layer.client.answer = Response(200, [(b"content-type", b"application/json")], b'{"data": []}')
    ctx = layer.model_ctx(payload=parse(EmbeddingRequest, body), model="m", tier=layer.models.tiers("m")[0])
    await layer.inference()(ctx, Request("POST", "/v1/embeddings", body=body))
    assert layer.client.sent[0][1].body == body
    assert ctx.usage_wanted


async def test_what_cannot_fit_is_refused_before_anybody_is_asked(layer) -> None:
    layer.offer(Model(id="m", targets=(REMOTE,), context=100))
    ctx = layer.model_ctx()
    response = await layer.model(ctx, max_tokens=5000)
    assert (response.status, layer.client.sent) == (400, [])
    error = msgspec.json.decode(response.body)["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert ctx.decisions[-1][:2] == ("context", "refused")
    assert layer.idle


async def test_what_cannot_fit_goes_to_the_models_for_long_prompts(layer, said) -> None:
    layer.client.answer = said.answer()
    layer.offer(
        Model(
            id="m",
            targets=(Target(id="s", url="https://s.example/v1"),),
            context=100,
            context_fallbacks=("n",),
        ),
        Model(id="n", targets=(Target(id="l", url="https://l.example/v1"),), context=6000),
    )
    layer.environment["DEEP_KEY"] = "sk-deep"
    ctx = layer.model_ctx()
    response = await layer.model(ctx, max_tokens=5000)
    assert (response.status, ctx.model, ctx.fallback) == (200, "n", "failover")
    assert [str(address) for address, _, _ in layer.client.sent] == ["https://l.example/v1"]
