"""What answers are made of: completions, chunks of a stream, embeddings, usage, models.

Fields that OpenAI always sends are always there, null where nothing is known (`logprobs`,
`finish_reason`, `usage`): clients index them without looking. DeepSeek's fields stand beside them.
"""

import base64
import struct
from collections.abc import Sequence

from msgspec import UNSET, Struct, UnsetType
from msgspec.json import Encoder

from moonpool.contracts import usage as contract

DONE = b"data: [DONE]\n\n"

_encode = Encoder().encode


class PromptDetails(Struct, frozen=True, gc=False):
    cached_tokens: int = 0


class CompletionDetails(Struct, frozen=True, gc=False):
    reasoning_tokens: int = 0


class Usage(Struct, frozen=True, gc=False, kw_only=True):
    """DeepSeek's `hit` + `miss` make `prompt_tokens`; OpenAI's `cached_tokens` repeats the hit."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails
    prompt_cache_hit_tokens: int
    prompt_cache_miss_tokens: int


class EmbeddingUsage(Struct, frozen=True, gc=False):
    prompt_tokens: int
    total_tokens: int


class FunctionCall(Struct, frozen=True, gc=False):
    """In a delta, `name` comes once and `arguments` in pieces."""

    name: str | UnsetType = UNSET
    arguments: str = ""


class ToolCall(Struct, frozen=True, gc=False):
    """`index` is of deltas only, and there tells which call a piece belongs to."""

    function: FunctionCall
    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET


class Message(Struct, frozen=True, kw_only=True):
    role: str = "assistant"
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class Delta(Struct, frozen=True, kw_only=True):
    role: str | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class TopLogprob(Struct, frozen=True, gc=False):
    """`bytes` is the token's UTF-8, since a token may be part of a character only."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[TopLogprob] = []


class Logprobs(Struct, frozen=True):
    content: list[TokenLogprob]
    refusal: None = None


class Choice(Struct, frozen=True, kw_only=True):
    index: int
    message: Message
    logprobs: Logprobs | None = None
    finish_reason: str


class ChunkChoice(Struct, frozen=True, kw_only=True):
    index: int
    delta: Delta
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class ChatCompletion(Struct, frozen=True, kw_only=True):
    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str | None = None


class ChatChunk(Struct, frozen=True, kw_only=True):
    """`usage` is null in every chunk but the last when usage was asked for, and absent otherwise."""

    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    system_fingerprint: str | None = None


class TextLogprobs(Struct, frozen=True, kw_only=True):
    """The legacy shape: parallel lists."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(Struct, frozen=True, kw_only=True):
    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: str | None = None


class TextCompletion(Struct, frozen=True, kw_only=True):
    """Whole or a chunk of a stream: OpenAI gives both the same shape and name."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | UnsetType | None = UNSET
    system_fingerprint: str | None = None


class Embedding(Struct, frozen=True, kw_only=True):
    """`embedding` is base64 of little-endian 32-bit floats where that was asked for."""

    object: str = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingList(Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class ModelCard(Struct, frozen=True, kw_only=True):
    id: str
    object: str = "model"
    created: int
    owned_by: str


class ModelList(Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[ModelCard]


def wire_usage(usage: contract.Usage) -> Usage:
    """Tokens as clients see them."""
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=PromptDetails(usage.cached_tokens),
        completion_tokens_details=CompletionDetails(usage.reasoning_tokens),
        prompt_cache_hit_tokens=usage.cached_tokens,
        prompt_cache_miss_tokens=usage.prompt_tokens - usage.cached_tokens,
    )


def event(chunk: ChatChunk | TextCompletion) -> bytes:
    """The chunk as a server-sent event: neither `id:` nor `event:`, which SDK decoders stumble over."""
    return b"data: " + _encode(chunk) + b"\n\n"


def body(answer: ChatCompletion | TextCompletion | EmbeddingList | ModelList) -> bytes:
    return _encode(answer)


def base64_vector(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
