"""What a request to the OpenAI surface may be: one struct an endpoint, rules between fields included.

Sources: OpenAI API reference (chat completions, completions, embeddings) and DeepSeek API reference.
Where both bound a field, the wider bound stands here: the endpoint that answers may be stricter.
Unknown fields pass unseen, since the caller keeps the original bytes. `openai.parse.parse` makes
these structs and is what everyone calls; each has `model`, `stream`, `characters()` and `check()`.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from moonpool.core.errors import BadRequest
from moonpool.openai.formats import (
    Function,
    JsonSchemaFormat,
    NamedFunction,
    ResponseFormat,
    Tool,
    ToolChoice,
    check_json_schema,
    check_tools,
)
from moonpool.openai.messages import AssistantMessage, Message, TextParts, ToolMessage, text_length

ModelName = Annotated[str, Meta(min_length=1, max_length=256)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Choices = Annotated[int, Meta(ge=1, le=128)]
MOST = 2**31 - 1
"""Of tokens, and of a token's number: engines count in 32 bits."""
Positive = Annotated[int, Meta(ge=1, le=MOST)]
Natural = Annotated[int, Meta(ge=0, le=MOST)]
TopLogprobs = Annotated[int, Meta(ge=0, le=20)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
LogitBias = dict[Annotated[str, Meta(pattern=r"^[0-9]+$")], Annotated[float, Meta(ge=-100, le=100)]]
Stop = str | Annotated[list[str], Meta(max_length=16)]
Tokens = Annotated[list[Natural], Meta(min_length=1)]
Texts = Annotated[list[str], Meta(min_length=1, max_length=2048)]


class StreamOptions(Struct, frozen=True, omit_defaults=True, gc=False):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Thinking(Struct, frozen=True, omit_defaults=True, gc=False):
    """DeepSeek's switch for thinking models."""

    type: Literal["enabled", "disabled", "auto"]


class Prediction(Struct, frozen=True, omit_defaults=True, gc=False):
    """Text that much of the answer is expected to be."""

    type: Literal["content"]
    content: str | TextParts


class ChatCompletionRequest(Struct, frozen=True, omit_defaults=True, kw_only=True):
    model: ModelName
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    n: Choices | None = None
    stop: Stop | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    seed: Seed | None = None
    user: str | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    thinking: Thinking | None = None
    functions: Annotated[list[Function], Meta(min_length=1, max_length=128)] | None = None
    """With `function_call` the older form of tools."""
    function_call: Literal["none", "auto"] | NamedFunction | None = None
    modalities: list[str] | None = None
    prediction: Prediction | None = None
    audio: dict[str, object] | None = None
    web_search_options: dict[str, object] | None = None
    verbosity: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None

    @property
    def limit(self) -> int | None:
        """Most tokens to generate; the newer name wins, as at OpenAI."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def includes_usage(self) -> bool:
        options = self.stream_options
        return options is not None and options.include_usage is True

    @property
    def open_ended(self) -> bool:
        """Whether there is JSON in it whose depth this schema does not bound."""
        return not (
            self.tools is None
            and self.response_format is None
            and self.tool_choice is None
            and self.functions is None
            and self.audio is None
            and self.web_search_options is None
        )

    def characters(self) -> int:
        return sum([text_length(message) for message in self.messages])

    def check(self) -> None:
        """The rules between fields. Raises BadRequest."""
        _check_messages(self.messages)
        if self.stream_options is not None and not self.stream:
            raise _needs_stream()
        if self.top_logprobs is not None and not self.logprobs:
            raise BadRequest(
                "'top_logprobs' needs 'logprobs' to be true.",
                param="top_logprobs",
                hint='Set "logprobs": true, or leave top_logprobs out.',
            )
        if isinstance(self.response_format, JsonSchemaFormat):
            check_json_schema(self.response_format.json_schema)
        if self.tools is not None or self.tool_choice is not None:
            check_tools(self.tools or (), self.tool_choice)


class CompletionRequest(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`prompt` is one text or one list of tokens, or a list of either; `suffix` fills in the middle."""

    model: ModelName
    prompt: str | Annotated[list[str | Natural | Tokens], Meta(min_length=1, max_length=131_072)]
    suffix: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Natural | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    n: Choices | None = None
    best_of: Annotated[int, Meta(ge=1, le=20)] | None = None
    echo: bool | None = None
    stop: Stop | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    logprobs: TopLogprobs | None = None
    seed: Seed | None = None
    user: str | None = None

    @property
    def limit(self) -> int | None:
        return self.max_tokens

    @property
    def includes_usage(self) -> bool:
        options = self.stream_options
        return options is not None and options.include_usage is True

    def prompts(self) -> list[str | list[int]]:
        """Every prompt on its own. The kinds are not mixed: `check` saw to it."""
        return _items(self.prompt)

    def characters(self) -> int:
        return _characters(self.prompt)

    def check(self) -> None:
        if not isinstance(self.prompt, str):
            _check_one_kind(self.prompt, "prompt")
        if self.stream_options is not None and not self.stream:
            raise _needs_stream()
        if self.best_of is not None:
            if self.best_of < (self.n or 1):
                raise BadRequest("'best_of' must not be less than 'n'.", param="best_of")
            if self.stream and self.best_of > (self.n or 1):
                raise BadRequest(
                    "'best_of' cannot be streamed: the best is known at the end only.", param="best_of"
                )


class EmbeddingRequest(Struct, frozen=True, omit_defaults=True, kw_only=True):
    model: ModelName
    input: str | Annotated[list[str | Natural | Tokens], Meta(min_length=1, max_length=131_072)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Positive | None = None
    user: str | None = None

    @property
    def stream(self) -> bool:
        return False

    def inputs(self) -> list[str | list[int]]:
        """Every input on its own."""
        return _items(self.input)

    def characters(self) -> int:
        return _characters(self.input)

    def check(self) -> None:
        if isinstance(self.input, str):
            if not self.input:
                raise _empty_input("input")
            return
        _check_one_kind(self.input, "input")
        count = 1 if isinstance(self.input[0], int) else len(self.input)
        if count > 2048:
            raise BadRequest("At most 2048 inputs can be embedded at once.", param="input")
        for index, item in enumerate(self.input):
            if item == "":
                raise _empty_input(f"input[{index}]")


Items = str | list[str | int | list[int]]


def _items(value: Items) -> list[str | list[int]]:
    if isinstance(value, str):
        return [value]
    tokens = [item for item in value if isinstance(item, int)]
    if tokens:
        return [tokens]
    return [item for item in value if not isinstance(item, int)]


def _characters(value: Items) -> int:
    """Four characters stand for a token that is given as a number."""
    if isinstance(value, str):
        return len(value)
    return sum(
        4 if isinstance(item, int) else len(item) * (1 if isinstance(item, str) else 4) for item in value
    )


def _check_one_kind(items: Sequence[str | int | list[int]], name: str) -> None:
    kind = type(items[0])
    for index, item in enumerate(items):
        if type(item) is not kind:
            raise BadRequest(
                f"'{name}' mixes texts and tokens.",
                param=f"{name}[{index}]",
                hint="Send a text, a list of texts, a list of tokens, or a list of lists of tokens.",
            )


def _empty_input(param: str) -> BadRequest:
    return BadRequest("An input must not be empty.", param=param, hint="Leave empty texts out.")


def _needs_stream() -> BadRequest:
    return BadRequest(
        "'stream_options' is only allowed when 'stream' is true.",
        param="stream_options",
        hint='Set "stream": true, or leave stream_options out.',
    )


def _check_messages(messages: list[Message]) -> None:
    """A tool message answers a call of the assistant's message before it; only the last may be a prefix."""
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        kind = type(message)
        if kind is AssistantMessage:
            assert isinstance(message, AssistantMessage)
            _check_assistant(message, index, last=index == len(messages) - 1)
            open_calls = {call.id for call in message.tool_calls or ()}
        elif kind is ToolMessage:
            assert isinstance(message, ToolMessage)
            if message.tool_call_id not in open_calls:
                raise BadRequest(
                    "A message of role 'tool' must answer a tool call of the assistant's message before it.",
                    param=f"messages[{index}].tool_call_id",
                    hint="Repeat the assistant's message with its tool_calls, then the answers by their ids.",
                )
            open_calls.discard(message.tool_call_id)


def _check_assistant(message: AssistantMessage, index: int, *, last: bool) -> None:
    if message.content is None and not message.tool_calls and message.refusal is None:
        raise BadRequest(
            "An assistant's message needs 'content' or 'tool_calls'.", param=f"messages[{index}].content"
        )
    if message.prefix and not last:
        raise BadRequest(
            "Only the last message can be a prefix to continue.", param=f"messages[{index}].prefix"
        )
