"""Tokens held for a request before anybody has counted them."""

import msgspec
import pytest

from moonpool.middleware.inference import DEFAULT_ANSWER
from moonpool.middleware.reservations import PLAIN, reservation
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest, EmbeddingRequest

HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("schema", "fields", "answer"),
    [
        (ChatCompletionRequest, {"messages": HELLO}, DEFAULT_ANSWER),
        (ChatCompletionRequest, {"messages": HELLO, "max_tokens": 10}, 10),
        (ChatCompletionRequest, {"messages": HELLO, "max_completion_tokens": 30, "max_tokens": 10}, 30),
        (ChatCompletionRequest, {"messages": HELLO, "max_tokens": 10, "n": 3}, 30),
        (CompletionRequest, {"prompt": "x", "max_tokens": 10, "best_of": 4, "n": 2}, 40),
        (CompletionRequest, {"prompt": "x", "max_tokens": 0}, 0),
        (EmbeddingRequest, {"input": "x"}, 0),
    ],
)
def test_prompt_and_the_longest_answers(schema, fields, answer: int) -> None:
    body = msgspec.json.encode({"model": "m", **fields})
    assert reservation(parse(schema, body), len(body), 10_000) == len(body) // 4 + 1 + answer


def test_pictures_are_not_text() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 200_000}}
    text = {"type": "text", "text": "what is it?"}
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": [text, picture]}]})
    assert reservation(parse(ChatCompletionRequest, body), len(body), 10_000) < 1000


def test_long_texts_are() -> None:
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "x" * PLAIN * 2}]})
    assert reservation(parse(ChatCompletionRequest, body), len(body), 100_000) >= PLAIN // 2


def test_no_more_than_can_be_had_unless_the_prompt_itself_is_more() -> None:
    body = msgspec.json.encode({"model": "m", "messages": HELLO, "max_tokens": 5000})
    payload = parse(ChatCompletionRequest, body)
    assert reservation(payload, len(body), 100) == 100
    assert reservation(payload, len(body), 10) == len(body) // 4 + 1
