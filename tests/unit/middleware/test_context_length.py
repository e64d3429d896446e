"""Only what no tokeniser could make fit is refused."""

import msgspec
import pytest

from moonpool.core.errors import BadRequest
from moonpool.middleware.context_length import check_context
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest, EmbeddingRequest

CONTEXT = 100


def check(schema: type, **fields: object) -> None:
    body = msgspec.json.encode({"model": "m", **fields})
    check_context(parse(schema, body), len(body), CONTEXT)


def chat(*texts: str, **more: object) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    check(ChatCompletionRequest, messages=messages, **more)


def test_what_may_fit_passes() -> None:
    chat("word " * 400)
    chat(" " * 50_000)
    chat("x" * 51_200)
    chat(*("" for _ in range(100)), max_tokens=100)
    check(CompletionRequest, prompt=["word " * 400, "word"], max_tokens=100)
    check(CompletionRequest, prompt=list(range(100)))
    check(EmbeddingRequest, input=["word " * 400] * 50)


@pytest.mark.parametrize(
    ("refused", "param", "told"),
    [
        (lambda: chat("word " * 5000), "messages", "at least 1250 tokens."),
        (lambda: chat("word " * 404), "messages", "at least 101 tokens."),
        (lambda: chat("x" * 52_000), "messages", "at least 101 tokens."),
        (lambda: chat(*("" for _ in range(101))), "messages", "at least 101 tokens."),
        (
            lambda: chat("hi", max_tokens=5000),
            "messages",
            "at least 5001 tokens (at least 1 in the messages, 5000 in the completion).",
        ),
        (lambda: chat("hi", max_tokens=1, max_completion_tokens=101), "messages", "101 in the completion"),
        (lambda: check(CompletionRequest, prompt="word " * 404), "prompt", "at least 101 tokens."),
        (lambda: check(CompletionRequest, prompt=["a", "word " * 404]), "prompt[1]", "at least 101 tokens."),
        (lambda: check(CompletionRequest, prompt=[7] * 101), "prompt", "at least 101 tokens."),
        (lambda: check(EmbeddingRequest, input=[[7], [7] * 101]), "input[1]", "at least 101 tokens."),
    ],
)
def test_what_cannot_fit_is_refused(refused, param: str, told: str) -> None:
    with pytest.raises(BadRequest) as error:
        refused()
    assert (error.value.code, error.value.param) == ("context_length_exceeded", param)
    assert error.value.message.startswith("This model's maximum context length is 100 tokens.")
    assert told in error.value.message
    assert error.value.hint
