"""Requests as structs, and refusals that say where the fault is."""

import msgspec
import pytest

from moonpool.core.errors import BadRequest
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest, EmbeddingRequest

USER = {"role": "user", "content": "Hi"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def chat(**fields: object) -> ChatCompletionRequest:
    return parse(ChatCompletionRequest, msgspec.json.encode({"model": "m", "messages": [USER], **fields}))


def refused(schema: type = ChatCompletionRequest, body: bytes | None = None, **fields: object) -> BadRequest:
    if body is None:
        base: dict[str, object] = {"model": "m"}
        if schema is ChatCompletionRequest:
            base["messages"] = [USER]
        body = msgspec.json.encode({**base, **fields})
    with pytest.raises(BadRequest) as caught:
        parse(schema, body)
    return caught.value


def test_everything_documented_is_accepted() -> None:
    request = chat(
        messages=[
            {"role": "system", "content": "Be kind."},
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {
                "role": "user",
                "name": "anna",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}},
                    {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
                    {"type": "file", "file": {"file_id": "file-1"}},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "42"},
            {"role": "assistant", "content": "It is", "prefix": True, "reasoning_content": "hm"},
        ],
        stream=True,
        stream_options={"include_usage": True},
        stop=["a", "b"],
        logit_bias={"50256": -100},
        logprobs=True,
        top_logprobs=20,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "f"}},
        temperature=2,
        top_p=0.5,
        n=3,
        seed=-1,
        max_tokens=5,
        max_completion_tokens=7,
        thinking={"type": "disabled"},
        anything_else={"deep": [1]},
    )
    assert request.stream is True
    assert request.includes_usage
    assert request.limit == 7
    assert request.characters() > 20


def test_null_is_the_same_as_absent() -> None:
    request = chat(temperature=None, stop=None, tools=None, stream=None, stream_options=None, n=None)
    assert request.temperature is None
    assert not request.includes_usage


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"presence_penalty": -2.5}, "presence_penalty"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"n": 0}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": ["x", 1]}, "stop[1]"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [USER, {"role": "robot", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "messages[0].content[0].type"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "messages[1].content"),
        (
            {"messages": [{"role": "assistant", "content": "x", "prefix": True}, USER]},
            "messages[0].prefix",
        ),
        ({"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format.json_schema.schema",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"type": "array"}},
                }
            },
            "response_format.json_schema.schema.type",
        ),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"model": ""}, "model"),
    ],
)
def test_a_refusal_names_the_place(fields: dict[str, object], param: str) -> None:
    assert refused(**fields).param == param


def test_a_tool_answer_must_follow_its_call() -> None:
    answer = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    call = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    chat(messages=[USER, call, answer])
    assert refused(messages=[USER, call, answer, answer]).param == "messages[3].tool_call_id"
    assert refused(messages=[call, {"role": "assistant", "content": "x"}, answer]).param is not None


def test_a_missing_field_is_named_with_a_hint() -> None:
    error = refused(body=b'{"messages":[{"role":"user","content":"x"}]}')
    assert (error.param, error.code) == ("model", "missing_required_parameter")
    assert error.hint is not None
    assert "/v1/models" in error.hint


def test_kinds_of_faults_are_told_apart() -> None:
    assert refused(temperature="x").code == "invalid_type"
    assert refused(temperature=5).code == "invalid_value"
    assert refused(body=b"[]").param is None
    assert refused(body=b"").code == "invalid_json"
    assert refused(body=b"{").code == "invalid_json"
    assert refused(body=b'{"model": NaN}').code == "invalid_json"


def test_a_hint_is_found_by_the_innermost_field_that_has_one() -> None:
    assert refused(stop=["x", 1]).hint == refused(stop=5).hint
    assert (
        refused(messages=[{"role": "robot"}]).hint == "Roles are system, developer, user, assistant and tool."
    )


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_the_four_kinds_of_prompts(prompt: object, prompts: object) -> None:
    body = msgspec.json.encode({"model": "m", "prompt": prompt})
    assert parse(CompletionRequest, body).prompts() == prompts
    body = msgspec.json.encode({"model": "m", "input": prompt})
    assert parse(EmbeddingRequest, body).inputs() == prompts


def test_completions_and_embeddings_have_their_own_rules() -> None:
    assert refused(CompletionRequest, prompt=["a", 1]).param == "prompt[1]"
    assert refused(CompletionRequest, prompt=[]).param == "prompt"
    assert refused(CompletionRequest, prompt="a", n=3, best_of=2).param == "best_of"
    assert refused(CompletionRequest, prompt="a", stream=True, best_of=2).param == "best_of"
    assert refused(CompletionRequest, prompt=[-1]).param == "prompt[0]"
    assert refused(EmbeddingRequest, input="").param == "input"
    assert refused(EmbeddingRequest, input=["a", ""]).param == "input[1]"
    assert refused(EmbeddingRequest, input=["a"] * 2049).param == "input"
    assert refused(EmbeddingRequest, input="a", encoding_format="hex").param == "encoding_format"
    assert refused(EmbeddingRequest, input="a", dimensions=0).param == "dimensions"


def test_many_tokens_are_one_input() -> None:
    body = msgspec.json.encode({"model": "m", "input": list(range(3000))})
    request = parse(EmbeddingRequest, body)
    assert len(request.inputs()) == 1
    assert request.characters() == 12_000
    assert request.stream is False


@pytest.mark.parametrize(
    "name",
    [
        "tools",
        "user",
        "metadata",
        "store",
        "logprobs",
        "stream_options",
        "parallel_tool_calls",
        "reasoning_effort",
        "functions",
        "function_call",
        "modalities",
        "prediction",
        "audio",
        "verbosity",
        "web_search_options",
        "service_tier",
        "thinking",
    ],
)
def test_a_known_field_of_the_wrong_type_is_refused_with_a_hint(name: str) -> None:
    error = refused(**{name: 1.5})
    assert (error.param, error.code) == (name, "invalid_type")
    assert error.hint


def test_the_key_of_a_mapping_is_named() -> None:
    error = refused(metadata={"a": "x", "b": 1})
    assert error.param == 'metadata["b"]'
    assert error.hint
    assert refused(logit_bias={"7": "x"}).param == 'logit_bias["7"]'


def test_a_field_inside_has_its_own_hint() -> None:
    error = refused(tools=[{"type": "function", "function": {"name": 1}}])
    assert (error.param, error.hint) == ("tools[0].function.name", "Use a text.")


def test_the_older_names_of_tools_are_accepted() -> None:
    request = chat(
        functions=[{"name": "f", "parameters": {"type": "object"}}],
        function_call={"name": "f"},
        modalities=["text"],
        prediction={"type": "content", "content": [{"type": "text", "text": "x"}]},
        audio={"voice": "alloy", "format": "wav"},
    )
    assert request.functions is not None
