"""Requests of clients → prompts and sampling for the engine. Pure.

What the engine would ignore without a word, or answer with 500, is refused here with the reason.
"""

from msgspec import to_builtins

from moonpool.core.errors import BadRequest
from moonpool.openai.formats import (
    AllowedToolsChoice,
    CustomChoice,
    FunctionChoice,
    FunctionTool,
    JsonObjectFormat,
    JsonSchemaFormat,
    TextFormat,
)
from moonpool.openai.messages import (
    AssistantMessage,
    DeveloperMessage,
    FunctionMessage,
    Message,
    PlainTextPart,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
    text_of,
)
from moonpool.services.inference.engine import ChatPrompt, Sampling
from moonpool.services.inference.schema import ChatRequest, TextRequest
from moonpool.services.inference.schema_bounds import SchemaBounds

DEFAULT_SYSTEM = "You are a helpful assistant."
"""For conversations without a system message: small models answer at random without one."""
MOST_CHOICES = 1024
"""Of one request: prompts times `n`."""

VARIED_TEMPERATURE = 0.8
"""Of several answers to one prompt when the request names none: llama.cpp's own. At that of small models
(llama_start.py) they would be one answer, paid for several times."""

Dict = dict[str, object]


def chat_prompt(request: ChatRequest, *, knows_tools: bool) -> ChatPrompt:
    """Raises BadRequest for what a local model cannot do."""
    messages = [_message(message, index) for index, message in enumerate(request.messages)]
    if not any(message["role"] == "system" for message in messages):
        messages.insert(0, {"role": "system", "content": DEFAULT_SYSTEM})
    tools, choice = _tools(request, knows_tools=knows_tools)
    return ChatPrompt(
        messages=messages,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls if tools else None,
        response_format=_response_format(request),
    )


def chat_sampling(request: ChatRequest, choice: int, *, traced: bool = False) -> Sampling:
    """Of one of the `n` choices: a given seed still gives different ones."""
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    return _sampling(request, choice, logprobs, traced)


def text_sampling(request: TextRequest, choice: int, *, traced: bool = False) -> Sampling:
    return _sampling(request, choice, request.logprobs, traced)


def check_text(request: TextRequest) -> None:
    """Raises BadRequest for what a local model cannot do."""
    if request.suffix:
        raise BadRequest(
            "This model cannot fill in the middle.",
            code="unsupported_parameter",
            param="suffix",
            hint="Leave suffix out, or use a model that can.",
        )
    if request.best_of is not None and request.best_of > (request.n or 1):
        raise BadRequest(
            "'best_of' above 'n' is not supported by this model.",
            code="unsupported_parameter",
            param="best_of",
        )
    if request.echo and request.logprobs is not None:
        raise BadRequest(
            "Log probabilities of the prompt ('echo' with 'logprobs') are not supported by this model.",
            code="unsupported_parameter",
            param="logprobs",
        )
    if len(request.prompts()) * (request.n or 1) > MOST_CHOICES:
        raise BadRequest(f"At most {MOST_CHOICES} completions can be asked for at once.", param="prompt")
    for index, prompt in enumerate(request.prompts()):
        if not prompt:
            raise BadRequest(
                "A prompt must not be empty.", param="prompt" if index == 0 else f"prompt[{index}]"
            )


def _sampling(
    request: ChatRequest | TextRequest, choice: int, logprobs: int | None, traced: bool
) -> Sampling:
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return Sampling(
        max_tokens=request.limit,
        temperature=_temperature(request),
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        repeat_penalty=request.repetition_penalty,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        logit_bias=request.logit_bias,
        logprobs=logprobs,
        seed=None if request.seed is None else request.seed + choice,
        traced=traced,
        stop=[text for text in stop if text],  # an empty one would end every answer before it began
    )


def _temperature(request: ChatRequest | TextRequest) -> float | None:
    if request.temperature is None and (request.n or 1) > 1:
        return VARIED_TEMPERATURE
    return request.temperature


def _message(message: Message, index: int) -> Dict:
    match message:
        case SystemMessage() | DeveloperMessage():  # templates know no developer
            return _with_name({"role": "system", "content": _text(message, index)}, message.name)
        case UserMessage():
            return _with_name({"role": "user", "content": _text(message, index)}, message.name)
        case ToolMessage():
            return {"role": "tool", "content": _text(message, index), "tool_call_id": message.tool_call_id}
        case FunctionMessage():
            return {"role": "tool", "content": message.content or "", "name": message.name}
        case AssistantMessage():
            return _assistant(message, index)


def _assistant(message: AssistantMessage, index: int) -> Dict:
    converted: Dict = {"role": "assistant", "content": _text(message, index)}
    if message.reasoning_content:
        converted["reasoning_content"] = message.reasoning_content
    if message.tool_calls:
        for call in message.tool_calls:
            if not isinstance(call, ToolCall):
                raise _only_functions(f"messages[{index}].tool_calls")
        converted["tool_calls"] = to_builtins(message.tool_calls)
    return converted


def _with_name(message: Dict, name: str | None) -> Dict:
    if name is not None:
        message["name"] = name
    return message


def _text(message: Message, index: int) -> str:
    content = message.content
    if isinstance(content, list) and not isinstance(message, AssistantMessage):
        for place, part in enumerate(content):
            if not isinstance(part, TextPart | PlainTextPart):
                raise BadRequest(
                    "This model reads text only.",
                    code="unsupported_value",
                    param=f"messages[{index}].content[{place}]",
                    hint="Leave images, audio and files out, or use a model that reads them.",
                )
    return text_of(message)


def _tools(request: ChatRequest, *, knows_tools: bool) -> tuple[list[Dict] | None, str | None]:
    """Tools and how they are to be used, in the words the engine knows: it cannot be told a name, so a
    named function is the only one it is shown."""
    choice = request.tool_choice
    if not request.tools or choice == "none":
        return None, None
    if isinstance(choice, AllowedToolsChoice | CustomChoice):
        raise _only_functions("tool_choice")
    forced = choice == "required" or isinstance(choice, FunctionChoice)
    if forced and not knows_tools:
        raise BadRequest(
            "This model cannot call tools.",
            code="unsupported_parameter",
            param="tool_choice",
            hint="Leave tool_choice out, or use a model whose template knows tools.",
        )
    bounds = SchemaBounds()
    tools: list[Dict] = []
    for index, tool in enumerate(request.tools):
        if not isinstance(tool, FunctionTool):
            raise _only_functions(f"tools[{index}]")
        if not isinstance(choice, FunctionChoice) or tool.function.name == choice.function.name:
            if knows_tools:
                bounds.check(tool.function.parameters or {}, f"tools[{index}].function.parameters")
            tools.append(to_builtins(tool))
    if not knows_tools:
        return None, None
    return tools, "required" if forced else "auto"


def _response_format(request: ChatRequest) -> Dict | None:
    match request.response_format:
        case None | TextFormat():
            return None
        case JsonObjectFormat():
            return {"type": "json_object"}
        case JsonSchemaFormat() as wanted:
            assert isinstance(wanted.json_schema.schema, dict)  # checked when the request was parsed
            SchemaBounds().check(wanted.json_schema.schema, "response_format.json_schema.schema")
            converted: Dict = to_builtins(wanted)
            return converted


def _only_functions(param: str) -> BadRequest:
    return BadRequest(
        "Only tools of type 'function' are supported by this model.", code="unsupported_value", param=param
    )
