"""Streams and whole answers are two forms of one thing."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.contracts.usage import Usage
from moonpool.http.sse import EventScanner, data_of
from moonpool.openai.assembly import as_stream, assemble, complete
from moonpool.openai.chunks import wire_usage

BASE = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
DONE = b"data: [DONE]\n\n"


def event(**fields: Any) -> bytes:
    return b"data: " + msgspec.json.encode({**BASE, **fields}) + b"\n\n"


def piece(delta: dict[str, Any], finish: str | None = None, index: int = 0, **fields: Any) -> bytes:
    return event(choices=[{"index": index, "delta": delta, "finish_reason": finish, **fields}])


def events(stream: bytes) -> list[Any]:
    datas = [data_of(one) for one in EventScanner().feed(stream)]
    assert datas[-1] == b"[DONE]"
    return [msgspec.json.decode(data) for data in datas[:-1] if data is not None]


PLAIN = piece({"role": "assistant", "content": ""}) + piece({"content": "Hel"}) + piece({"content": "lo"})
WHOLE = PLAIN + b": keep-alive\n\n" + piece({}, "stop") + event(choices=[], usage=USAGE) + DONE


def assembled(stream: bytes) -> Any:
    whole = assemble(stream)
    assert whole is not None
    assert complete(whole)
    return msgspec.json.decode(whole)


def test_a_stream_becomes_an_answer() -> None:
    answer = assembled(WHOLE)
    assert answer["object"] == "chat.completion"
    assert (answer["id"], answer["created"], answer["model"]) == ("chatcmpl-1", 7, "m")
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert answer["usage"] == USAGE


def test_line_ends_do_not_matter() -> None:
    assert assembled(WHOLE.replace(b"\n", b"\r\n")) == assembled(WHOLE)


def test_usage_from_elsewhere() -> None:
    stream = PLAIN + piece({}, "stop") + DONE
    assert assembled(stream)["usage"] is None
    given = assemble(stream, wire_usage(Usage(prompt_tokens=4, completion_tokens=2)))
    assert msgspec.json.decode(given or b"")["usage"]["total_tokens"] == 6


def test_thoughts_tools_logprobs_and_several_choices() -> None:
    token = {"token": "a", "logprob": -1.0, "bytes": None, "top_logprobs": []}
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    second = {"index": 1, "id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}
    stream = b"".join(
        [
            piece({"role": "assistant", "content": None, "reasoning_content": "hm"}),
            piece({"reasoning_content": "m"}),
            piece({"tool_calls": [call]}),
            piece({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}),
            piece({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}, second]}),
            piece({"content": "a"}, index=1, logprobs={"content": [token], "refusal": None}),
            piece({"content": "b"}, index=1, logprobs={"content": [token, token], "refusal": None}),
            piece({}, "tool_calls"),
            piece({}, "length", index=1),
            DONE,
        ]
    )
    tools, text = assembled(stream)["choices"]
    assert tools["message"]["reasoning_content"] == "hmm"
    assert [one["function"] for one in tools["message"]["tool_calls"]] == [
        {"name": "f", "arguments": '{"a":1}'},
        {"name": "g", "arguments": "{}"},
    ]
    assert "index" not in tools["message"]["tool_calls"][0]
    assert len(text["logprobs"]["content"]) == 3
    again = assembled(as_stream(assemble(stream) or b"", usage=False))
    for choice in again["choices"]:
        assert choice["finish_reason"] == assembled(stream)["choices"][choice["index"]]["finish_reason"]
    assert again["choices"][0]["message"]["tool_calls"] == tools["message"]["tool_calls"]
    assert again["choices"][1]["logprobs"]["content"] == text["logprobs"]["content"]


@pytest.mark.parametrize("usage", [True, False])
def test_an_answer_becomes_a_stream(usage: bool) -> None:
    stream = as_stream(assemble(WHOLE) or b"", usage=usage)
    found = events(stream)
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": "Hello"}
    assert found[1]["choices"][0]["finish_reason"] == "stop"
    assert {one["object"] for one in found} == {"chat.completion.chunk"}
    if usage:
        assert [one["usage"] for one in found] == [None, None, USAGE]
        assert found[2]["choices"] == []
    else:
        assert len(found) == 2
        assert all("usage" not in one for one in found)
    assert b"\nid:" not in stream
    assert b"event:" not in stream


def test_legacy_completions() -> None:
    base = {"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m"}

    def text(part: str, finish: str | None = None) -> bytes:
        choice = {"index": 0, "text": part, "logprobs": None, "finish_reason": finish}
        return b"data: " + msgspec.json.encode({**base, "choices": [choice]}) + b"\n\n"

    answer = assembled(text("a") + text("b") + text("", "stop") + DONE)
    assert (answer["object"], answer["choices"][0]["text"]) == ("text_completion", "ab")
    again = assembled(as_stream(msgspec.json.encode(answer), usage=False))
    assert again["choices"] == answer["choices"]


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        DONE,
        PLAIN + DONE,
        PLAIN + piece({}, "stop"),
        PLAIN + piece({}, "content_filter") + DONE,
        PLAIN + b'data: {"error":{"message":"x"}}\n\n' + piece({}, "stop") + DONE,
        PLAIN + b"data: {broken\n\n" + piece({}, "stop") + DONE,
        PLAIN + piece({"audio": {"data": "x"}}) + piece({}, "stop") + DONE,
        piece({"tool_calls": [{"index": 3, "function": {}}]}) + piece({}, "tool_calls") + DONE,
        piece({"content": "x"}, "stop") + piece({"content": "y"}, index=1) + DONE,
    ],
)
def test_what_is_not_whole_or_not_understood(stream: bytes) -> None:
    assert assemble(stream) is None


@pytest.mark.parametrize("cut", range(0, len(WHOLE)))
def test_cut_anywhere_it_is_not_whole(cut: int) -> None:
    assert assemble(WHOLE[:cut]) is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"choices":[{"finish_reason":"stop"}]}', True),
        (b'{"choices":[{"finish_reason":null}]}', False),
        (b'{"choices":[]}', False),
        (b'{"choices":[1]}', False),
        (b'{"object":"list","data":[{}]}', True),
        (b'{"object":"list","data":[]}', False),
        (b'{"error":{}}', False),
        (b"[]", False),
        (b"{", False),
    ],
)
def test_complete(body: bytes, expected: bool) -> None:
    assert complete(body) is expected


@given(st.lists(st.text(max_size=5), max_size=8), st.booleans())
def test_there_and_back(parts: list[str], usage: bool) -> None:
    stream = b"".join(piece({"content": part}) for part in parts) + piece({"content": ""}, "stop") + DONE
    first = assembled(stream)
    assert first["choices"][0]["message"]["content"] == "".join(parts)
    again = assembled(as_stream(msgspec.json.encode(first), usage=usage))
    assert again == first
