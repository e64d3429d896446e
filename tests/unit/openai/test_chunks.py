"""Answers in the shapes that clients index without looking."""

import base64
import struct

import msgspec
import pytest

from moonpool.contracts.usage import Usage
from moonpool.openai.chunks import (
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    Delta,
    FunctionCall,
    Message,
    ToolCall,
    base64_vector,
    body,
    event,
    wire_usage,
)
from moonpool.openai.usage import usage_of_body, usage_of_event

USAGE = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=5, reasoning_tokens=2)


def chunk(**fields: object) -> ChatChunk:
    choices = [ChunkChoice(index=0, delta=Delta(content="x"))]
    return ChatChunk(id="c", created=1, model="m", choices=choices, **fields)  # type: ignore[arg-type]


def test_hit_and_miss_make_the_prompt() -> None:
    usage = wire_usage(USAGE)
    assert usage.prompt_cache_hit_tokens + usage.prompt_cache_miss_tokens == usage.prompt_tokens
    assert usage.total_tokens == 15
    assert usage.prompt_tokens_details.cached_tokens == 4
    assert usage.completion_tokens_details.reasoning_tokens == 2


def test_a_chunk_is_one_event_with_nulls_where_clients_look() -> None:
    data = event(chunk())
    assert data.startswith(b"data: {")
    assert data.endswith(b"}\n\n")
    assert data.count(b"\n") == 2
    decoded = msgspec.json.decode(data[6:])
    assert decoded["choices"][0] == {
        "index": 0,
        "delta": {"content": "x"},
        "logprobs": None,
        "finish_reason": None,
    }
    assert "usage" not in decoded
    assert msgspec.json.decode(event(chunk(usage=None))[6:])["usage"] is None


def test_usage_survives_the_wire() -> None:
    whole = ChatCompletion(
        id="c",
        created=1,
        model="m",
        choices=[Choice(index=0, message=Message(content="x"), finish_reason="stop")],
        usage=wire_usage(USAGE),
    )
    assert usage_of_body(body(whole)) == USAGE
    assert usage_of_event(event(chunk(usage=wire_usage(USAGE)))) == (USAGE, False)
    last = ChatChunk(id="c", created=1, model="m", choices=[], usage=wire_usage(USAGE))
    assert usage_of_event(event(last)) == (USAGE, True)


def test_tool_calls_keep_empty_arguments() -> None:
    call = ToolCall(id="call_1", type="function", function=FunctionCall(name="f"))
    encoded = msgspec.json.decode(msgspec.json.encode(Message(tool_calls=[call])))
    assert encoded["content"] is None
    assert encoded["tool_calls"] == [
        {"function": {"name": "f", "arguments": ""}, "id": "call_1", "type": "function"}
    ]


def test_base64_is_little_endian_floats() -> None:
    raw = base64.b64decode(base64_vector([1.0, -0.5]))
    assert struct.unpack("<2f", raw) == pytest.approx((1.0, -0.5))
