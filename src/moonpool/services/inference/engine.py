"""What the service asks of an engine, whichever runs the model.

    generate(request) ──► Generation ──► Piece, Piece, …, Finished       or raises a MoonpoolError
                              └─ cancel: the slot is given back by the engine's next step

One generation is one choice for one prompt. Engines know nothing of HTTP, of several choices or of
waiting: the service does that once for all of them.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec import Struct

from moonpool.openai.chunks import TokenLogprob, ToolCall

Prompt = str | list[int]


class ModelInfo(Struct, frozen=True, kw_only=True):
    """`context` is the most tokens of prompt and answer together; `load_seconds` what loading took."""

    context: int
    knows_tools: bool
    revision: str
    load_seconds: float


class Sampling(Struct, frozen=True, kw_only=True):
    """How tokens are chosen. None leaves it to the engine."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: int | None = None
    """Alternatives to report beside each token; 0: the token's own only."""
    seed: int | None = None
    stop: list[str] = []
    traced: bool = False
    """Whether pieces tell the tokens that they came from."""


class ChatPrompt(Struct, frozen=True, kw_only=True):
    """A conversation. The last message is continued when it is the assistant's.

    `response_format`, `tools` and `messages` are in OpenAI's shape.
    """

    messages: list[dict[str, object]]
    tools: list[dict[str, object]] | None = None
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, object] | None = None


class Piece(Struct, frozen=True):
    """What one step of the model added.

    Where tracing was asked for, `count` is how many tokens it came from; `tokens` are their ids, or nothing
    when not all are known.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    tokens: tuple[int, ...] = ()
    count: int = 0


class Finished(Struct, frozen=True, kw_only=True):
    """The end: why, and what it took. `reason` is OpenAI's finish reason."""

    reason: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0


class Vector(Struct, frozen=True):
    values: list[float]
    tokens: int


class Generation(Protocol):
    """Iterate to the end, or cancel; `wait_closed` returns when the engine holds nothing for it."""

    def __aiter__(self) -> AsyncIterator[Piece | Finished]: ...

    def cancel(self) -> None:
        """Want no more. Safe at any time and any number of times."""

    async def wait_closed(self) -> None: ...


class Engine(Protocol):
    """A loaded model. Errors: BadRequest (context_length_exceeded…), Unavailable, InternalError."""

    @property
    def info(self) -> ModelInfo: ...

    def chat(self, prompt: ChatPrompt, sampling: Sampling) -> Generation: ...

    def complete(self, prompt: Prompt, sampling: Sampling) -> Generation: ...

    async def embed(self, text: Prompt) -> Vector:
        """The same vector for the same text, whatever else is asked at the time. Of length 1."""

    async def tokenize(self, text: str) -> list[int]: ...

    async def prompt_tokens(self, prompt: ChatPrompt | Prompt) -> list[int]:
        """The tokens that `chat` or `complete` would read, those of the template included."""
        ...

    async def answer_tokens(self, parts: Sequence[int | str]) -> list[int]:
        """The tokens of an answer that is partly known as text."""
        ...

    async def detokenize(self, tokens: list[int]) -> str: ...

    async def close(self) -> None: ...
