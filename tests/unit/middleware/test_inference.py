"""From an alias to an endpoint: what is sent there, and what is charged for it."""

from random import Random

import msgspec
import pytest

from moonpool.balancing.inference import InferenceBalancer
from moonpool.balancing.models import Models
from moonpool.balancing.pools import Pools
from moonpool.contracts.catalogue import Catalogue, Model, Target
from moonpool.contracts.manifest import Route, Timeouts
from moonpool.core.errors import NotFound, Unavailable
from moonpool.core.message import Request, Response
from moonpool.middleware.inference import InferenceUpstream
from moonpool.middleware.signing import ContextSigner
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest, EmbeddingRequest
from moonpool.ports.discovery import Instance, Topology

LOCAL = Target(id="local")
REMOTE = Target(id="deepseek", url="https://api.example/v1", model="deepseek-chat", api_key_env="DEEP_KEY")
MESSAGES = '"messages": [{"role": "user", "content": "0123456789abcdef"}]'


class Setup:
    def __init__(self, client, clock) -> None:
        self.pools = Pools()
        self.models = Models(self.pools)
        self.environment = {"DEEP_KEY": "sk-deep"}
        self.upstream = InferenceUpstream(
            models=self.models,
            balancer=InferenceBalancer(clock, Random(1)),
            client=client,
            signer=ContextSigner("gateway", {"inference": b"k" * 32}, clock),
            environment=self.environment,
        )

    def serve(self, *targets: Target, instances: int = 0) -> None:
        modules = tuple(
            Instance(
                name="inference",
                release="v1",
                instance=f"inference-{n}",
                pid=n,
                state="ready",
                endpoint=f"unix:/run/{n}.sock",
            )
            for n in range(instances)
        )
        self.pools.update(Topology(1, modules))
        self.models.update(Catalogue(1, (Model(id="m", targets=targets),)))

    async def ask(self, ctx, fields: str = "", path: str = "/v1/chat/completions") -> Response:
        body = f'{{"model": "m", {MESSAGES}{fields}}}'.encode()
        ctx.payload = parse(ChatCompletionRequest, body)
        return await self.upstream(
            ctx, Request("POST", path, headers={b"authorization": b"Bearer mine"}, body=body)
        )

    @property
    def endpoints(self):
        return [candidate.endpoint for tier in self.models.tiers("m") for candidate in tier]

    @property
    def idle(self) -> bool:
        return all((e.active, e.tokens, e.queued_tokens) == (0, 0, 0) for e in self.endpoints)


@pytest.fixture
def setup(client, clock) -> Setup:
    return Setup(client, clock)


async def test_our_own_instance_gets_the_client_s_bytes_and_the_signed_context(
    make_ctx, setup, client
) -> None:
    setup.serve(LOCAL, instances=1)
    ctx = make_ctx()
    response = await setup.ask(ctx, ', "temperature":   0.5')
    ((address, sent, _),) = client.sent
    assert str(address) == "unix:/run/0.sock"
    assert sent.path == "/v1/chat/completions"
    assert b'"temperature":   0.5' in sent.body
    assert b"x-moonpool-context" in sent.headers
    assert b"authorization" not in sent.headers
    assert (ctx.model, ctx.release) == ("m", "v1")
    assert response.header(b"x-moonpool-release") == b"inference@v1"


async def test_an_external_endpoint_gets_its_own_name_and_key_and_no_context(make_ctx, setup, client) -> None:
    setup.serve(REMOTE)
    await setup.ask(make_ctx(), ', "seed": 7')
    ((address, sent, _),) = client.sent
    assert str(address) == "https://api.example/v1"
    assert sent.path == "/chat/completions"
    assert sent.headers[b"authorization"] == b"Bearer sk-deep"
    assert b"x-moonpool-context" not in sent.headers
    assert b"x-request-id" not in sent.headers
    body = msgspec.json.decode(sent.body)
    assert (body["model"], body["seed"]) == ("deepseek-chat", 7)


async def test_an_external_endpoint_s_own_fields_stay_there(make_ctx, setup, client) -> None:
    setup.serve(REMOTE)
    fields = [(b"set-cookie", b"a"), (b"server", b"x"), (b"x-request-id", b"theirs"), (b"retry-after", b"3")]
    client.answer = Response(429, [(b"content-type", b"application/json"), *fields], b"{}")
    response = await setup.ask(make_ctx())
    assert {name for name, _ in response.headers} == {b"content-type", b"retry-after", b"x-moonpool-release"}


@pytest.mark.parametrize(
    ("fields", "wanted", "sent_options"),
    [
        ("", True, None),
        (', "stream": false', True, None),
        (', "stream": true', False, {"include_usage": True}),
        (', "stream": true, "stream_options": null', False, {"include_usage": True}),
        (', "stream": true, "stream_options": {"include_usage": false}', False, {"include_usage": True}),
        (', "stream": true, "stream_options": {"include_usage": true}', True, {"include_usage": True}),
        (', "stream": true, "stream_options": {"x": 1}', False, {"x": 1, "include_usage": True}),
    ],
)
async def test_the_usage_of_streams_is_always_asked_for(
    make_ctx, setup, client, fields: str, wanted: bool, sent_options
) -> None:
    setup.serve(LOCAL, instances=1)
    ctx = make_ctx()
    await setup.ask(ctx, fields)
    assert ctx.usage_wanted == wanted
    assert msgspec.json.decode(client.sent[0][1].body).get("stream_options") == sent_options


async def test_load_is_charged_while_it_lasts_and_the_prefill_rate_is_learnt(
    make_ctx, setup, client, clock, sink
) -> None:
    setup.serve(LOCAL, instances=1)
    body = client.stream()
    ctx = make_ctx()
    await setup.ask(ctx, ', "stream": true, "max_tokens": 40')
    (endpoint,) = setup.endpoints
    assert ctx.prompt_tokens > 0
    assert (endpoint.active, endpoint.tokens, endpoint.queued_tokens) == (1, 40, ctx.prompt_tokens)
    body.connect(sink)
    clock.advance(0.5)
    body.feed(b"data: {}\n\n")
    assert endpoint.prefill_rate == ctx.prompt_tokens / 0.5
    body.cancel()
    assert setup.idle


@pytest.mark.parametrize(("fields", "first_byte"), [("", 90.0), (', "stream": true', 7.0)])
async def test_a_whole_answer_may_take_the_whole_time(
    make_ctx, setup, client, fields: str, first_byte: float
) -> None:
    setup.serve(LOCAL, instances=1)
    route = Route(method="POST", path="/v1/chat/completions", timeouts=Timeouts(total=90.0, first_byte=7.0))
    await setup.ask(make_ctx(route=route), fields)
    assert client.sent[0][2]["first_byte_timeout"] == first_byte


async def test_a_missing_key_is_told_and_costs_no_lease(make_ctx, setup, client) -> None:
    setup.serve(REMOTE)
    del setup.environment["DEEP_KEY"]
    with pytest.raises(Unavailable, match="DEEP_KEY") as raised:
        await setup.ask(make_ctx())
    assert raised.value.code == "target_not_configured"
    assert setup.idle
    assert client.sent == []


async def test_a_target_without_a_key_gets_none(make_ctx, setup, client) -> None:
    setup.serve(Target(id="ollama", url="http://127.0.0.1:11434/v1"))
    await setup.ask(make_ctx())
    sent = client.sent[0][1]
    assert b"authorization" not in sent.headers
    assert msgspec.json.decode(sent.body)["model"] == "m"


async def test_unknown_models_and_missing_instances(make_ctx, setup) -> None:
    setup.serve(LOCAL)
    with pytest.raises(Unavailable, match="no instance"):
        await setup.ask(make_ctx())
    setup.models.update(Catalogue(2, ()))
    with pytest.raises(NotFound):
        await setup.ask(make_ctx())


async def test_several_instances_are_chosen_among(make_ctx, setup, client) -> None:
    setup.serve(LOCAL, instances=3)
    bodies = []
    for _ in range(9):
        bodies.append(client.stream())
        await setup.ask(make_ctx(), ', "stream": true')
    assert {str(address) for address, _, _ in client.sent} == {f"unix:/run/{n}.sock" for n in range(3)}
    for body in bodies:
        body.cancel()
    assert setup.idle


async def test_embeddings(make_ctx, setup, client) -> None:
    setup.serve(LOCAL, instances=2)
    body = b'{"model": "m", "input": ["one", "two"]}'
    ctx = make_ctx(payload=parse(EmbeddingRequest, body))
    await setup.upstream(ctx, Request("POST", "/v1/embeddings", body=body))
    assert client.sent[0][1].body == body
    assert ctx.usage_wanted
