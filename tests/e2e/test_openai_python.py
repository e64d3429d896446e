"""The official OpenAI SDK for Python against the real model."""

import math

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from harness.platform import UNCACHED

pytestmark = pytest.mark.real_model

MODEL = "smollm2"
PARIS: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]


def test_models_are_listed_and_found(client: OpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]
    model = client.models.retrieve(MODEL)
    assert (model.id, model.object) == (MODEL, "model")
    assert model.created > 0
    assert model.owned_by


def test_an_answer_names_paris(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=PARIS, temperature=0, max_tokens=32)

    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.object == "chat.completion"
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert 0 < answer.usage.completion_tokens <= 32
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_names_paris_in_pieces(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=PARIS, temperature=0, max_tokens=32, stream=True, extra_headers=UNCACHED
    )
    chunks = list(stream)

    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "Paris" in "".join(pieces)
    assert sum(1 for piece in pieces if piece) > 3
    assert len({chunk.id for chunk in chunks}) == 1
    assert len({chunk.created for chunk in chunks}) == 1
    assert [choice.finish_reason for choice in chunks[-1].choices] in (["stop"], ["length"])
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_tells_its_usage_when_asked(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=PARIS,
        temperature=0,
        max_tokens=32,
        stream=True,
        stream_options={"include_usage": True},
        extra_headers=UNCACHED,
    )
    *chunks, last = list(stream)
    whole = client.chat.completions.create(
        model=MODEL, messages=PARIS, temperature=0, max_tokens=32, extra_headers=UNCACHED
    )

    assert last.choices == []
    assert last.usage is not None
    assert whole.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (
        whole.usage.prompt_tokens,
        whole.usage.completion_tokens,
    )
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_from_the_cache_is_one_like_any_other(client: OpenAI) -> None:
    asked = {"model": MODEL, "messages": PARIS, "temperature": 0, "max_tokens": 24}
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    replayed = client.chat.completions.with_raw_response.create(**asked, **options)  # type: ignore[call-overload]

    *chunks, last = list(replayed.parse())
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert replayed.headers["x-moonpool-cache"] == "hit"
    assert "".join(pieces) == whole.choices[0].message.content
    assert last.usage == whole.usage


def test_without_a_system_prompt_the_default_one_helps(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=PARIS[1:], temperature=0, max_tokens=32)

    assert "Paris" in (answer.choices[0].message.content or "")


def test_several_choices_are_all_counted(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=PARIS, n=2, max_tokens=8, seed=1)

    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 8


def test_a_schema_is_kept_to(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Name a city and its country as JSON."}],
        temperature=0,
        max_tokens=64,
        response_format={
            "type": "json_schema",
            "json_schema": {
                "name": "place",
                "schema": {
                    "type": "object",
                    "properties": {"big": {"type": "boolean"}},
                    "required": ["big"],
                    "additionalProperties": False,
                },
            },
        },
    )

    content = answer.choices[0].message.content or ""
    assert content.replace(" ", "").replace("\n", "") in {'{"big":true}', '{"big":false}'}


def test_plain_completions_are_answered(client: OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="The capital of France is", max_tokens=8, temperature=0
    )

    assert "Paris" in answer.choices[0].text
    assert answer.object == "text_completion"


def test_embeddings_tell_near_from_far(client: OpenAI) -> None:
    texts = ["The cat sleeps on the sofa.", "A cat is sleeping on a couch.", "Interest rates rose in May."]
    answer = client.embeddings.create(model=MODEL, input=texts)
    cat, also_cat, money = (item.embedding for item in answer.data)

    assert [item.index for item in answer.data] == [0, 1, 2]
    assert cosine(cat, also_cat) > cosine(cat, money)
    assert answer.usage.prompt_tokens > 10
    alone = client.embeddings.create(model=MODEL, input=texts[1]).data[0].embedding
    assert cosine(alone, also_cat) > 0.999


def cosine(one: list[float], other: list[float]) -> float:
    product = sum(x * y for x, y in zip(one, other, strict=True))
    return product / math.sqrt(sum(x * x for x in one) * sum(y * y for y in other))


def test_leaving_a_stream_frees_the_model(client: OpenAI) -> None:
    for _ in range(8):  # twice the engine's slots
        stream = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Count to one thousand."}],
            max_tokens=2000,
            stream=True,
        )
        next(iter(stream))
        stream.close()

    answer = client.chat.completions.create(model=MODEL, messages=PARIS, max_tokens=4, timeout=20)
    assert answer.choices


def test_a_wrong_key_is_an_authentication_error(client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key="sk-nobody-has-this-key").models.list()

    assert caught.value.code == "invalid_api_key"


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-17", messages=PARIS)

    assert caught.value.code == "model_not_found"
    assert "gpt-17" in caught.value.message


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 9.5}, "temperature"),
        ({"max_tokens": -4}, "max_tokens"),
        ({"messages": [{"role": "pirate", "content": "x"}]}, "messages[0].role"),
        ({"messages": "hello"}, "messages"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_a_wrong_type_names_its_parameter(client: OpenAI, wrong: dict[str, object], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=MODEL,
            messages=PARIS,
            extra_body=wrong,
        )

    assert (caught.value.param or "").startswith(param.partition("[")[0])
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True])
def test_an_over_long_prompt_is_refused_before_it_costs_anything(client: OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "moon pool " * 20_000}], stream=stream
        )

    assert caught.value.code == "context_length_exceeded"
