"""What is certainly too long is refused before the engine prepares it."""

import msgspec
import pytest

from moonpool.core.errors import BadRequest
from moonpool.services.inference.bounds import LONGEST_TOKEN, check_messages, check_prompt
from moonpool.services.inference.schema import ChatRequest


def request(*texts: str) -> ChatRequest:
    messages = [{"role": "user", "content": text} for text in texts]
    return msgspec.convert({"model": "m", "messages": messages}, ChatRequest)


def test_more_messages_than_tokens_never_fit() -> None:
    check_messages(request(*["a"] * 10).messages, 10)
    with pytest.raises(BadRequest, match="at least 11 tokens") as caught:
        check_messages(request(*["a"] * 11).messages, 10)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


def test_nor_do_more_bytes_than_the_longest_tokens_have() -> None:
    check_messages(request("é" * (10 * LONGEST_TOKEN // 2)).messages, 10)
    with pytest.raises(BadRequest, match="at least 11 tokens"):
        check_messages(request("é" * (11 * LONGEST_TOKEN // 2)).messages, 10)


@pytest.mark.parametrize(("prompt", "fits"), [([1] * 10, True), ([1] * 11, False), ("a" * 5000, True)])
def test_prompts_of_tokens_are_counted(prompt: str | list[int], fits: bool) -> None:
    if fits:
        check_prompt(prompt, 10, "prompt")
    else:
        with pytest.raises(BadRequest) as caught:
            check_prompt(prompt, 10, "prompt")
        assert caught.value.param == "prompt"
