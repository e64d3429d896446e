"""Where the content of a stream begins: an answer may be had from somebody else up to there."""

import pytest

from moonpool.core.errors import UpstreamMalformed
from moonpool.openai.opening import LARGEST, is_content
from moonpool.openai.reported import Reported

COMMENT = b": keep-alive\n\n"
ROLES = [
    b'{"choices":[{"delta":{"role":"assistant","content":""}}]}',
    b'{"choices":[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]}',
    b'{"choices":[{"delta":{"role":"assistant","content":null},"finish_reason":null}]}',
    b'{"choices":[{"delta":{"role": "assistant", "content": null}}]}',
    b'{"choices":[{"delta":{"role":"assistant"}}]}',
    b'{"choices": [{"delta": {"role": "assistant"}, "logprobs": null}]}',
    b'{"choices":[{"delta":{"role":"assistant","content":null,"reasoning_content":""}}]}',
    b'{"choices":[{"delta":{"role": "assistant", "content": "", "reasoning_content": ""}}]}',
    b'{"choices":[{"delta":{"role":"assistant","content":"","reasoning_content":null}}],"usage":null}',
    b'{"error":null,"choices":[{"delta":{"role":"assistant","content":""}}]}',
]
CONTENTS = [
    b'{"choices":[{"delta":{"content":"hi"}}]}',
    b'{"choices":[{"delta":{"role":"assistant","content":"hi"}}]}',
    b'{"choices":[{"delta":{"role":"assistant","content":"","reasoning_content":"Hm"}}]}',
    b'{"choices":[{"delta":{"role": "assistant", "content": null, "reasoning_content": "Hm"}}]}',
    b'{"choices":[{"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0}]}}]}',
    b'{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":"stop"}]}',
    b'{"choices":[{"delta":{"role": "assistant", "content": ""}, "finish_reason": "length"}]}',
    b'{"choices":[{"text":"hi"}]}',
    b'{"choices":[],"usage":{"prompt_tokens":1}}',
    b'{"error":{},"choices":[{"delta":{"content":"hi"}}]}',
    b"[DONE]",
]


def event(data: bytes, end: bytes = b"\n\n", field: bytes = b"data: ") -> bytes:
    return field + data + end


@pytest.mark.parametrize("before", [b"", COMMENT, COMMENT * 3, b"\n"])
@pytest.mark.parametrize("role", ROLES)
def test_a_role_alone_is_none(role: bytes, before: bytes) -> None:
    assert not is_content(before + event(role))
    assert not is_content(before + event(role, field=b"data:"))
    assert not is_content(before + event(role) + COMMENT)


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("before", [b"", COMMENT, event(ROLES[0]), COMMENT + event(ROLES[0])])
@pytest.mark.parametrize("content", CONTENTS)
def test_content(content: bytes, before: bytes, end: bytes) -> None:
    assert is_content(before.replace(b"\n\n", end) + event(content, end))


@pytest.mark.parametrize("role", ROLES)
def test_whatever_comes_behind_the_first_event_is_content(role: bytes) -> None:
    assert is_content(event(role) + event(role))


@pytest.mark.parametrize("content", CONTENTS)
def test_an_event_counts_when_all_of_it_is_there(content: bytes) -> None:
    """A stream comes in pieces of any size, and no beginning of one is taken for something else."""
    whole = COMMENT + event(content)
    for size in range(1, len(whole)):
        assert not is_content(whole[:size]), whole[:size]
    assert is_content(whole)


@pytest.mark.parametrize("field", [b"event: message\n", b"id: 7\n", b"retry: 10\n"])
def test_other_fields_of_an_event(field: bytes) -> None:
    assert is_content(field + event(CONTENTS[0]))
    assert not is_content(field + event(ROLES[0]))
    assert not is_content(COMMENT + field)


@pytest.mark.parametrize("block", [b"retry: 3000\n\n", b"event: ping\n\n", b"id: 7\n: x\n\n"])
def test_a_block_without_data_is_no_event(block: bytes) -> None:
    assert not is_content(block)
    assert not is_content(block + event(ROLES[0]))
    assert is_content(block + event(CONTENTS[0]))


@pytest.mark.parametrize(
    "begun",
    [b"<html><body>", b'{"choices": []}', b"Internal Server Error", b"\x00\x00\x00\x00\x00\x00\x00\x00"],
)
def test_what_is_no_stream_of_events(begun: bytes) -> None:
    with pytest.raises(UpstreamMalformed, match="events"):
        is_content(begun)


@pytest.mark.parametrize("data", [b"{", b"hello", b'{"choices":[{"del', b"\xff\xfe", b"", b"[1]", b'"x"'])
@pytest.mark.parametrize("before", [b"", COMMENT])
def test_a_first_event_that_is_no_object(data: bytes, before: bytes) -> None:
    with pytest.raises(UpstreamMalformed, match="JSON"):
        is_content(before + event(data))


def test_an_event_without_an_end_is_not_waited_for_for_ever() -> None:
    assert not is_content(b"data: " + b"x" * (LARGEST - 100))
    with pytest.raises(UpstreamMalformed, match="larger"):
        is_content(b"data: " + b"x" * LARGEST)


@pytest.mark.parametrize(
    "data",
    [
        b'{"error":{"message":"out of memory","code":500}}',
        b'{"error":"overloaded"}',
        b'{"choices":[],"error":{"message":"x"}}',
    ],
)
def test_an_error_in_the_place_of_the_first_event_is_a_failure(data: bytes) -> None:
    for before in (b"", COMMENT, event(ROLES[0]), event(ROLES[0]) + COMMENT):
        with pytest.raises(Reported) as raised:
            is_content(before + event(data))
        assert raised.value.code == "upstream_reported_error"
        assert raised.value.response.body == data


def test_an_error_behind_content_is_the_client_s_to_read() -> None:
    assert is_content(event(CONTENTS[0]) + event(b'{"error":{"message":"x"}}'))
