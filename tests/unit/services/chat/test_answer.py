"""Chunks become an answer."""

import pytest

from moonpool.core.errors import UpstreamMalformed
from moonpool.services.chat.answer import Answer, read_error


def test_text_thoughts_and_the_end_are_collected() -> None:
    answer = Answer()
    answer.add(b'{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"usage":null}')
    answer.add(b'{"choices":[{"delta":{"reasoning_content":"hm"}}]}')
    answer.add(b'{"choices":[{"delta":{"content":"Hi"}}]}')
    assert answer.content == "Hi"
    answer.add(b'{"choices":[{"delta":{"content":" \\u00e9"},"finish_reason":"length"}]}')
    answer.add(b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}')
    assert (answer.content, answer.reasoning, answer.size) == ("Hi é", "hm", 6)
    assert answer.finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 4)


def test_usage_in_the_last_chunk_with_choices_counts() -> None:
    answer = Answer()
    answer.add(
        b'{"choices":[{"delta":{},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":2}}}'
    )
    assert answer.usage is not None
    assert answer.usage.cached_tokens == 2
    assert answer.finish_reason == "stop"


def test_an_error_event_is_kept() -> None:
    answer = Answer()
    answer.add(b'{"error":{"message":"m","type":"t","param":null,"code":400}}')
    assert answer.error is not None
    assert (answer.error.message, answer.error.code) == ("m", "400")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"choices":"x"}'])
def test_what_is_no_chunk_is_malformed(data: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        Answer().add(data)


def test_errors_that_are_not_objects() -> None:
    assert read_error(b"<html>", 502).code == "upstream_error"
    assert read_error(b'{"error":{"message":"m"}}', 400).message == "m"
