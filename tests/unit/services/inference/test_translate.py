"""What the engine is told, and what is refused before it is asked."""

from functools import partial

import msgspec
import pytest

from moonpool.core.errors import BadRequest
from moonpool.services.inference.schema import ChatRequest, TextRequest
from moonpool.services.inference.translate import (
    DEFAULT_SYSTEM,
    chat_prompt,
    chat_sampling,
    check_text,
    text_sampling,
)

USER = {"role": "user", "content": "Hi"}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]


def chat(**fields: object) -> ChatRequest:
    return msgspec.convert({"model": "m", "messages": [USER], **fields}, ChatRequest)


def text(**fields: object) -> TextRequest:
    return msgspec.convert({"model": "m", "prompt": "x", **fields}, TextRequest)


def refused(request: ChatRequest | TextRequest, *, knows_tools: bool = False) -> BadRequest:
    check = partial(chat_prompt, knows_tools=knows_tools) if isinstance(request, ChatRequest) else check_text
    with pytest.raises(BadRequest) as caught:
        check(request)  # type: ignore[arg-type]
    return caught.value


def test_a_conversation_without_a_system_message_gets_one() -> None:
    prompt = chat_prompt(chat(), knows_tools=False)
    assert prompt.messages == [{"role": "system", "content": DEFAULT_SYSTEM}, USER]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_one_with_keeps_its_own(role: str) -> None:
    prompt = chat_prompt(chat(messages=[{"role": role, "content": "Be mean."}, USER]), knows_tools=False)
    assert prompt.messages == [{"role": "system", "content": "Be mean."}, USER]


def test_parts_of_text_become_text() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    prompt = chat_prompt(
        chat(messages=[{"role": "user", "content": parts, "name": "anna"}]), knows_tools=False
    )
    assert prompt.messages[-1] == {"role": "user", "content": "one\ntwo", "name": "anna"}


def test_a_prefix_is_the_last_message_without_its_mark() -> None:
    last = {"role": "assistant", "content": "It is", "prefix": True}
    prompt = chat_prompt(chat(messages=[USER, last]), knows_tools=False)
    assert prompt.messages[-1] == {"role": "assistant", "content": "It is"}


def test_images_are_refused_with_their_place() -> None:
    image = {"type": "image_url", "image_url": {"url": "http://x"}}
    parts = [{"type": "text", "text": "look"}, image]
    assert (
        refused(chat(messages=[USER, {"role": "user", "content": parts}])).param == "messages[1].content[1]"
    )


def test_tools() -> None:
    knows = chat_prompt(chat(tools=TOOLS), knows_tools=True)
    assert (len(knows.tools or []), knows.tool_choice) == (2, "auto")
    assert chat_prompt(chat(tools=TOOLS), knows_tools=False).tools is None
    assert chat_prompt(chat(tools=TOOLS, tool_choice="none"), knows_tools=True).tools is None
    named = {"type": "function", "function": {"name": "g"}}
    one = chat_prompt(chat(tools=TOOLS, tool_choice=named), knows_tools=True)
    assert one.tool_choice == "required"
    assert [tool["function"]["name"] for tool in one.tools or []] == ["g"]  # type: ignore[index]
    assert refused(chat(tools=TOOLS, tool_choice="required")).param == "tool_choice"
    assert refused(chat(tools=TOOLS, tool_choice=named)).param == "tool_choice"
    custom = [{"type": "custom", "custom": {"name": "c"}}]
    assert refused(chat(tools=custom), knows_tools=True).param == "tools[0]"


def test_a_conversation_with_tool_calls() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    ]
    prompt = chat_prompt(chat(messages=messages), knows_tools=True)
    assert prompt.messages[2] == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert prompt.messages[3] == {"role": "tool", "content": "42", "tool_call_id": "c1"}


def test_response_formats() -> None:
    assert chat_prompt(chat(response_format={"type": "text"}), knows_tools=False).response_format is None
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    told = chat_prompt(chat(response_format=wanted), knows_tools=False).response_format
    assert told is not None
    assert told["type"] == "json_schema"
    assert told["json_schema"]["schema"] == {"type": "object"}  # type: ignore[index]


def test_schemas_that_would_hold_the_engine_are_refused() -> None:
    schema = {"type": "object", "properties": {f"p{number}": {} for number in range(3000)}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(BadRequest) as refused:
        chat_prompt(chat(response_format=wanted), knows_tools=False)
    assert refused.value.param == "response_format.json_schema.schema"
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    with pytest.raises(BadRequest) as refused:
        chat_prompt(chat(tools=tools), knows_tools=True)
    assert refused.value.param == "tools[0].function.parameters"
    chat_prompt(chat(tools=tools), knows_tools=False)  # it is not shown them


@pytest.mark.parametrize(
    "make", [lambda **more: chat_sampling(chat(**more), 0), lambda **more: text_sampling(text(**more), 0)]
)
def test_several_answers_differ_unless_a_temperature_is_named(make) -> None:
    assert make().temperature is None
    assert make(n=1).temperature is None
    assert make(n=2).temperature == 0.8
    assert make(n=2, temperature=0).temperature == 0


def test_sampling() -> None:
    request = chat(
        temperature=0.5, top_k=7, stop="a", seed=3, logprobs=True, max_tokens=9, max_completion_tokens=5
    )
    sampling = chat_sampling(request, choice=2)
    assert (sampling.temperature, sampling.top_k, sampling.stop) == (0.5, 7, ["a"])
    assert (sampling.seed, sampling.logprobs, sampling.max_tokens) == (5, 0, 5)
    assert chat_sampling(chat(), 1).seed is None
    assert chat_sampling(chat(top_logprobs=None), 0).logprobs is None
    assert text_sampling(text(logprobs=3), 0).logprobs == 3
    assert text_sampling(text(stop=["a", ""]), 0).stop == ["a"]
    assert text_sampling(text(stop=""), 0).stop == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"n": 1, "best_of": 2}, "best_of"),
        ({"echo": True, "logprobs": 1}, "logprobs"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt[1]"),
        ({"prompt": ["a"] * 600, "n": 2}, "prompt"),
    ],
)
def test_completions_that_local_models_cannot_do(fields: dict[str, object], param: str) -> None:
    assert refused(text(**fields)).param == param
