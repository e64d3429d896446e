"""While no target of a model answers: an object that says so, where the route or the client wants one.

Other instances, releases and models were tried before (failover), and so was a stale answer. The object has
an answer's shape and no answer in it: marked `degraded`, without usage, and never where a program expects
JSON or a call of a tool.
"""

from typing import Literal

import msgspec

from moonpool.contracts.fallback import RETRY_AFTER, Fallback, FallbackParts
from moonpool.core.context import Context
from moonpool.core.errors import PlatformError
from moonpool.core.message import Request, Response
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class _Text(msgspec.Struct):
    content: str
    role: str = "assistant"


class _Chat(msgspec.Struct, omit_defaults=True):
    """A choice of a chat answer or of one of its chunks."""

    index: int | None = None
    message: _Text | None = None
    delta: _Text | None = None
    text: str | None = None
    finish_reason: str = ""


class _Degraded(msgspec.Struct):
    cause: str
    retry_after: float


class _Object(msgspec.Struct):
    id: str
    object: str
    created: int
    model: str
    choices: list[_Chat]
    degraded: _Degraded
    usage: _Usage | None


def create(parts: FallbackParts) -> Fallback:
    return _Inference(parts)


class _Inference:
    def __init__(self, parts: FallbackParts) -> None:
        self._clock = parts.clock

    async def answer(self, ctx: Context, request: Request, cause: PlatformError) -> Response | None:
        return None

    def degraded(self, ctx: Context, request: Request, cause: PlatformError) -> Response | None:
        payload = ctx.payload
        if isinstance(payload, ChatCompletionRequest):
            if payload.tools or payload.response_format is not None:
                return None  # a program will read it
            kind: Literal["chat", "text"] = "chat"
        elif isinstance(payload, CompletionRequest):
            kind = "text"
        else:
            return None  # there is no vector that says it is none
        if (payload.n or 1) > 1:
            return None
        return self._respond(ctx, kind, bool(payload.stream), payload.model, cause)

    def _respond(
        self, ctx: Context, kind: Literal["chat", "text"], streamed: bool, model: str, cause: PlatformError
    ) -> Response:
        wait = cause.retry_after or RETRY_AFTER
        text = f"The model is not available at the moment. Please try again in {wait:.0f} seconds."
        names = {"chat": "chat.completion", "text": "text_completion"}
        answer = _Object(
            id=ctx.request_id,
            object=names[kind] + (".chunk" if streamed and kind == "chat" else ""),
            created=int(self._clock.time()),
            model=model,
            choices=[_choice(kind, streamed, text)],
            degraded=_Degraded(cause.code or type(cause).__name__, wait),
            usage=None if streamed else _Usage(),
        )
        body = msgspec.json.encode(answer)
        if streamed:
            headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
            return Response(200, headers, b"data: " + body + b"\n\ndata: [DONE]\n\n")
        return Response(200, [(b"content-type", b"application/json")], body)


def _choice(kind: Literal["chat", "text"], streamed: bool, text: str) -> _Chat:
    choice = _Chat(index=0, finish_reason="stop")
    if kind == "text":
        choice.text = text
    elif streamed:
        choice.delta = _Text(text)
    else:
        choice.message = _Text(text)
    return choice
