"""Which requests are the same, and which are not."""

import msgspec
import pytest

from moonpool.contracts.catalogue import Model, Target
from moonpool.middleware.cache_key import cache_key, deterministic
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest, EmbeddingRequest

MODEL = Model(id="m", targets=(Target(id="t", url="http://h/v1"),), revision="1")
BODY = b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":0}'


def key(body: bytes = BODY, **changes: object) -> str:
    fields = {"tenant": "org_1", "release": "v1", "model": MODEL, "path": "/v1/chat/completions", **changes}
    return cache_key(body=body, **fields)  # type: ignore[arg-type]


def with_(**fields: object) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(BODY), **fields})


@pytest.mark.parametrize(
    "body",
    [
        b'{ "temperature" :0, "messages":[{"content":"x","role":"user"}],\n"model":"m"}',
        with_(stream=True, stream_options={"include_usage": True}),
        with_(user="somebody", metadata={"a": "b"}, safety_identifier="x", store=True),
        with_(seed=None),
    ],
)
def test_the_same(body: bytes) -> None:
    assert key(body) == key()


@pytest.mark.parametrize(
    "body",
    [
        with_(temperature=0.5),
        with_(max_tokens=5),
        with_(seed=1),
        with_(tools=[]),
        with_(messages=[{"role": "user", "content": "y"}]),
        with_(messages=[{"role": "system", "content": "x"}]),
        with_(messages=[{"role": "user", "content": "x"}] * 2),
        with_(unknown_to_us=1),
    ],
)
def test_another_question(body: bytes) -> None:
    assert key(body) != key()


def test_nobody_sees_another_s_and_no_model_answers_for_another() -> None:
    other = Model(id="m", targets=(Target(id="t", url="http://other/v1"),), revision="1")
    newer = Model(id="m", targets=MODEL.targets, revision="2")
    keys = {
        key(),
        key(tenant="org_2"),
        key(release="v2"),
        key(model=other),
        key(model=newer),
        key(path="/v1/completions"),
    }
    assert len(keys) == 6


@pytest.mark.parametrize(
    ("schema", "fields", "expected"),
    [
        (ChatCompletionRequest, {}, False),
        (ChatCompletionRequest, {"temperature": 0}, True),
        (ChatCompletionRequest, {"temperature": 0.0}, True),
        (ChatCompletionRequest, {"temperature": 0.1}, False),
        (ChatCompletionRequest, {"temperature": 1, "seed": 0}, True),
        (CompletionRequest, {}, False),
        (CompletionRequest, {"seed": 4}, True),
        (EmbeddingRequest, {}, True),
    ],
)
def test_deterministic(schema, fields: dict[str, object], expected: bool) -> None:
    base = {"model": "m", "messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x"}
    assert deterministic(parse(schema, msgspec.json.encode({**base, **fields}))) is expected
