"""llama.cpp's own request and answer format, as its server code speaks it. Pure.

The format is near OpenAI's, and deviates; nothing outside this file and `llama.py` knows how.
"""

from collections.abc import Iterator

import msgspec
from msgspec import UNSET, Struct, field
from msgspec.structs import replace

from moonpool.core.errors import (
    BadRequest,
    InternalError,
    MoonpoolError,
    Unavailable,
    UpstreamMalformed,
)
from moonpool.openai.chunks import FunctionCall, TokenLogprob, ToolCall, TopLogprob
from moonpool.services.inference.engine import ChatPrompt, Finished, Piece, Prompt, Sampling, Vector

_encode = msgspec.json.Encoder().encode


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct):
    index: int = 0
    id: str | None = None
    type: str | None = None
    function: _Function = field(default_factory=_Function)


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Entry(Struct):
    """A token. Its probability after sampling, which tracing asks for, has another name."""

    id: int = -1
    token: str = ""
    logprob: float = 0.0
    bytes: list[int] | None = None
    top_logprobs: list[TopLogprob] = []


class _Logprobs(Struct):
    content: list[_Entry] | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _PromptDetails(Struct):
    cached_tokens: int = 0


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails = field(default_factory=_PromptDetails)


class _Timings(Struct):
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0
    predicted_n: int = 0


class EngineError(Struct):
    """`code` is an HTTP status. The token counts are there when the prompt was too long."""

    message: str
    code: int = 500
    type: str = ""
    n_prompt_tokens: int = 0
    n_ctx: int = 0


class _Event(Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    timings: _Timings = field(default_factory=_Timings)
    error: EngineError | None = None


class _Embedding(Struct):
    embedding: list[float]


class _Embeddings(Struct):
    data: list[_Embedding] = []
    usage: _Usage = field(default_factory=_Usage)
    error: EngineError | None = None


_event = msgspec.json.Decoder(_Event | None)
_embeddings = msgspec.json.Decoder(_Embeddings)


def chat_body(prompt: ChatPrompt, sampling: Sampling) -> bytes:
    body = _sampling(sampling)
    body["messages"] = prompt.messages
    body["stream_options"] = {"include_usage": True}
    for name in ("tools", "tool_choice", "parallel_tool_calls", "response_format"):
        value = getattr(prompt, name)
        if value is not None:
            body[name] = value
    if sampling.logprobs is not None or sampling.traced:
        body["logprobs"] = True
        body["top_logprobs"] = max(1, sampling.logprobs or 0)
    return _encode(body)


def completion_body(prompt: Prompt, sampling: Sampling) -> bytes:
    body = _sampling(sampling)
    body["prompt"] = prompt
    if sampling.logprobs is not None or sampling.traced:
        body["logprobs"] = max(1, sampling.logprobs or 0)
    return _encode(body)


def _sampling(sampling: Sampling) -> dict[str, object]:
    """Always streamed, so that it can be stopped; progress makes the engine call back while it still
    reads the prompt, so that it can be stopped there too."""
    body: dict[str, object] = {"stream": True, "return_progress": True, "cache_prompt": True}
    for name in (
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
    ):
        value = getattr(sampling, name)
        if value is not None:
            body[name] = value
    if sampling.traced:
        body["timings_per_token"] = True  # counts the tokens, also those of which no event comes
        if sampling.logprobs is None:
            body["post_sampling_probs"] = True  # those that are at hand: the others sort the vocabulary
    if sampling.seed is not None:
        body["seed"] = sampling.seed % (2**32 - 1)  # 2³²-1 itself means random
    if sampling.stop:
        body["stop"] = sampling.stop
    if sampling.logit_bias:
        body["logit_bias"] = [[int(token), bias] for token, bias in sampling.logit_bias.items()]
    return body


class EventReader:
    """The events of one generation in, pieces and the end out."""

    def __init__(self, *, logprobs: int | None, traced: bool = False, schema: str | None = None) -> None:
        self._traced = traced
        self._tokens: list[int] = []
        self._counted = 0
        self._schema = schema
        self._alternatives = logprobs
        self._reason: str | None = None
        self.finished = False

    def feed(self, data: bytes) -> Iterator[Piece | Finished]:
        """Raises the engine's error as ours."""
        try:
            event = _event.decode(data)
        except msgspec.DecodeError as error:
            raise UpstreamMalformed(f"The engine sent an event that is none: {error}") from None
        if event is None:
            return
        if event.error is not None:
            raise translate(event.error, self._schema)
        for choice in event.choices:
            self._reason = choice.finish_reason or self._reason
            piece = self._piece(choice)
            if self._traced:
                piece = self._trace(choice, piece, event.timings.predicted_n)
            if piece is not None:
                yield piece
        if event.usage is not None and self._reason is not None:
            self.finished = True
            yield Finished(
                reason=self._reason,
                prompt_tokens=event.usage.prompt_tokens,
                cached_tokens=event.usage.prompt_tokens_details.cached_tokens,
                completion_tokens=event.usage.completion_tokens,
                prefill_seconds=event.timings.prompt_ms / 1000,
                decode_seconds=event.timings.predicted_ms / 1000,
            )

    def _piece(self, choice: _Choice) -> Piece | None:
        delta = choice.delta
        piece = Piece(
            text=choice.text or (delta.content if delta else None) or "",
            reasoning=(delta.reasoning_content if delta else None) or "",
            tool_calls=tuple(map(_tool_call, (delta.tool_calls if delta else None) or ())),
            logprobs=self._logprobs(choice.logprobs),
        )
        return piece if piece != _NOTHING else None

    def _trace(self, choice: _Choice, piece: Piece | None, generated: int) -> Piece | None:
        """`piece` with the tokens since the one before: all are known, or they are only counted."""
        if choice.logprobs is not None:
            self._tokens += [entry.id for entry in choice.logprobs.content or ()]
        if piece is None:
            return None
        count, tokens = generated - self._counted, tuple(self._tokens)
        self._counted = generated
        self._tokens.clear()
        return replace(piece, tokens=tokens if len(tokens) == count else (), count=count)

    def _logprobs(self, found: _Logprobs | None) -> tuple[TokenLogprob, ...]:
        """Cut to the number asked for: the engine gives at least one alternative."""
        wanted = self._alternatives
        if wanted is None or found is None or not found.content:
            return ()
        return tuple(
            TokenLogprob(entry.token, entry.logprob, entry.bytes, entry.top_logprobs[:wanted])
            for entry in found.content
        )


_NOTHING = Piece()


def _tool_call(call: _ToolCall) -> ToolCall:
    name, arguments = call.function.name, call.function.arguments
    return ToolCall(
        index=call.index,
        id=call.id or UNSET,
        type=call.type or UNSET,
        function=FunctionCall(name=name or UNSET, arguments=arguments or ""),
    )


def read_vector(data: bytes) -> Vector:
    """The one vector of an embeddings answer. Raises the engine's error as ours."""
    answer = _embeddings.decode(data)
    if answer.error is not None:
        raise translate(answer.error)
    if not answer.data:
        raise UpstreamMalformed("The engine answered without a vector.")
    return Vector(answer.data[0].embedding, answer.usage.prompt_tokens)


def schema_param(prompt: ChatPrompt) -> str | None:
    """What a JSON schema that the engine cannot follow is blamed on."""
    return "response_format" if prompt.response_format else "tools" if prompt.tools else None


def translate(error: EngineError, schema: str | None = None) -> MoonpoolError:
    """The engine's refusals are about the request; what it cannot explain is ours. `schema` is the
    parameter with the JSON schema, if there is one."""
    if error.n_ctx:
        return BadRequest(
            f"This model's maximum context length is {error.n_ctx} tokens. "
            f"However, your request has {error.n_prompt_tokens} tokens.",
            code="context_length_exceeded",
            hint="Shorten the prompt.",
        )
    if error.code in (400, 501):
        return _unsupported(error.message, schema)
    if error.code == 503:
        return Unavailable("The model is not ready.", retry_after=1.0)
    return InternalError("The engine failed.")


def refusal(error: ValueError | RuntimeError, schema: str | None = None) -> MoonpoolError:
    """What the engine throws while it prepares a request, before anything has run."""
    if isinstance(error, ValueError):
        return _unsupported(str(error), schema)
    return InternalError("The engine failed to start the request.")


def _unsupported(message: str, schema: str | None) -> BadRequest:
    """A schema's fault is told without the engine's story of how it came upon it."""
    _, found, fault = message.partition("JSON schema error at ")
    unable = "Unable to generate parser" in message
    if schema is not None and (found or unable or "failed to parse grammar" in message):
        told = "it repeats something too often"
        if found:
            told = f"at {fault.rstrip('.')}"
        elif unable:
            told = "something in it is not supported"
        return BadRequest(
            f"This model cannot follow the JSON schema: {told}.",
            code="unsupported_value",
            param=schema,
            hint="Use a simpler schema.",
        )
    if "invalid tokens" in message:
        return BadRequest(
            "There are tokens in it that this model does not know.",
            code="invalid_value",
            param="prompt",
            hint="Send the text, or token ids of this model's own vocabulary.",
        )
    return BadRequest(f"The model cannot serve this request: {message}", code="unsupported_value")
