"""The alias is looked up once, and all that others go by is on the context."""

import pytest

from moonpool.balancing.models import Models
from moonpool.balancing.pools import Pools
from moonpool.contracts.catalogue import Catalogue, Model, Target
from moonpool.contracts.manifest import BalancerKind, Route
from moonpool.core.errors import BadRequest, NotFound, Unavailable
from moonpool.core.message import Request, Response
from moonpool.middleware.resolution import BYTES_PER_TOKEN, CAPABILITIES, Resolution
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest, EmbeddingRequest

TARGET = Target(id="a", url="https://a.example/v1")
BODIES = {
    "/v1/chat/completions": (ChatCompletionRequest, b'"messages": [{"role": "user", "content": "Hi"}]'),
    "/v1/completions": (CompletionRequest, b'"prompt": "Hi"'),
    "/beta/completions": (CompletionRequest, b'"prompt": "Hi"'),
    "/v1/embeddings": (EmbeddingRequest, b'"input": "Hi"'),
}


@pytest.fixture
def models() -> Models:
    models = Models(Pools())
    talks = Model(id="talks", targets=(TARGET,), capabilities=("chat", "completions"))
    embeds = Model(id="embeds", targets=(TARGET,), capabilities=("embeddings",))
    models.update(Catalogue(1, (talks, embeds)))
    return models


@pytest.fixture
def resolve(models, make_ctx):
    async def resolve(path: str, model: str, rest: bytes = b""):
        """The context below, or what was raised."""
        schema, content = BODIES[path]
        body = b'{"model": "%b", %b%b}' % (model.encode(), content, rest)
        ctx = make_ctx(payload=parse(schema, body))
        seen = []

        async def below(ctx, request) -> Response:
            seen.append(ctx)
            return Response(200)

        await Resolution(models)(ctx, Request("POST", path, body=body), below)
        assert seen == [ctx]
        return ctx, len(body)

    return resolve


def test_every_path_has_a_capability() -> None:
    assert set(CAPABILITIES) == set(BODIES)


@pytest.mark.parametrize("path", BODIES)
async def test_the_alias_and_an_estimate_of_the_prompt(resolve, path: str) -> None:
    model = "embeds" if path == "/v1/embeddings" else "talks"
    ctx, size = await resolve(path, model)
    assert ctx.model == model
    assert ctx.prompt_tokens == size // BYTES_PER_TOKEN + 1
    assert (ctx.streamed, ctx.usage_wanted) == (False, True)


@pytest.mark.parametrize(
    ("rest", "streamed", "wanted"),
    [
        (b', "stream": false', False, True),
        (b', "stream": null', False, True),
        (b', "stream": true', True, False),
        (b', "stream": true, "stream_options": {"include_usage": true}', True, True),
        (b', "stream": true, "stream_options": {"include_usage": false}', True, False),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_streams_and_whether_their_usage_is_for_the_client(
    resolve, path, rest: bytes, streamed: bool, wanted: bool
) -> None:
    ctx, _ = await resolve(path, "talks", rest)
    assert (ctx.streamed, ctx.usage_wanted) == (streamed, wanted)


async def test_what_the_client_can_mend(resolve) -> None:
    with pytest.raises(NotFound):
        await resolve("/v1/chat/completions", "unknown")
    with pytest.raises(BadRequest) as raised:
        await resolve("/v1/embeddings", "talks")
    assert raised.value.code == "unsupported_capability"


async def test_without_a_catalogue_it_is_our_fault(resolve, models) -> None:
    models.__init__(Pools())
    with pytest.raises(Unavailable):
        await resolve("/v1/chat/completions", "talks")


@pytest.mark.parametrize("kind", BalancerKind)
def test_where_it_applies(models, kind) -> None:
    route = Route(method="POST", path="/x", balancer=kind)
    assert Resolution(models).applies(route) == (kind is BalancerKind.INFERENCE)
