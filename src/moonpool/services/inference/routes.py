"""inference over HTTP: thin handlers around Inference."""

from litestar import get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import ASGIApp, ControllerRouterHandler
from structlog.typing import FilteringBoundLogger

from moonpool.asgi.app import AnyRequest
from moonpool.contracts.continuation import CONTINUE, TOKENS, Begun, Continuing
from moonpool.openai import chunks
from moonpool.openai.errors import ErrorBody
from moonpool.openai.parse import parse
from moonpool.openai.schema import EmbeddingRequest
from moonpool.services.inference.connected import Events, Whole
from moonpool.services.inference.models import Load
from moonpool.services.inference.schema import ChatRequest, TextRequest
from moonpool.services.inference.service import Inference


def handlers(inference: Inference, log: FilteringBoundLogger) -> list[ControllerRouterHandler]:
    """Bodies are parsed here and not by Litestar: errors then have the place of the fault, as at the
    gateway, and duplicate keys are refused."""

    @post(
        "/v1/chat/completions",
        status_code=200,
        summary="Answer a conversation",
        responses=_responses(chunks.ChatCompletion),
    )
    async def chat(request: AnyRequest) -> ASGIApp:
        body = await request.body()
        wanted = parse(ChatRequest, body)
        if wanted.stream:
            begun = _begun(request, body)
            if begun is not None:
                return Events(lambda: inference.continued_chat(wanted, begun), log)
            return Events(lambda: inference.chat_events(wanted, traced=_traced(request)), log)

        async def whole() -> bytes:
            return chunks.body(await inference.chat(wanted))

        return Whole(whole)

    @post(
        ["/v1/completions", "/beta/completions"],
        status_code=200,
        summary="Continue a text",
        responses=_responses(chunks.TextCompletion),
    )
    async def complete(request: AnyRequest) -> ASGIApp:
        body = await request.body()
        wanted = parse(TextRequest, body)
        if wanted.stream:
            begun, traced = _begun(request, body), _traced(request)
            return Events(lambda: inference.text_events(wanted, traced=traced, begun=begun), log)

        async def whole() -> bytes:
            return chunks.body(await inference.complete(wanted))

        return Whole(whole)

    @post(
        "/v1/embeddings",
        status_code=200,
        summary="Vectors of texts",
        responses=_responses(chunks.EmbeddingList),
    )
    async def embed(request: AnyRequest) -> ASGIApp:
        wanted = parse(EmbeddingRequest, await request.body())

        async def whole() -> bytes:
            return chunks.body(await inference.embed(wanted))

        return Whole(whole)

    @get("/internal/load", include_in_schema=False)
    async def load() -> dict[str, Load]:
        return inference.load()

    return [chat, complete, embed, load]


def _traced(request: AnyRequest) -> bool:
    """Whether the gateway wants each event's tokens."""
    return TOKENS.decode() in request.headers


def _begun(request: AnyRequest, body: bytes) -> Begun | None:
    """The answer that this request continues."""
    return parse(Continuing, body).moonpool if CONTINUE.decode() in request.headers else None


def _responses(answer: type) -> dict[int, ResponseSpec]:
    return {
        200: ResponseSpec(answer, description="The answer", generate_examples=False),
        400: ResponseSpec(ErrorBody, description="A refusal", generate_examples=False),
    }
