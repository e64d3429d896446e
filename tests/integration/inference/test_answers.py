"""What the real model answers, through the service's HTTP surface."""

import json

import pytest

pytestmark = pytest.mark.real_model

CHAT = "/v1/chat/completions"
PARIS = {
    "model": "smollm2",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "temperature": 0,
    "max_tokens": 32,
}


def text_of(chunks: list[dict], index: int = 0) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["index"] == index
    )


async def test_a_question_is_answered(platform) -> None:
    answer = (await platform.post(CHAT, PARIS)).json()
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "smollm2"
    assert answer["choices"][0]["finish_reason"] == "stop"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_cache_hit_tokens"] + usage["prompt_cache_miss_tokens"] == usage["prompt_tokens"]


async def test_streamed_and_whole_are_the_same(platform) -> None:
    whole = (await platform.post(CHAT, PARIS)).json()
    chunks, done = await platform.stream(CHAT, {**PARIS, "stream_options": {"include_usage": True}})
    assert done
    assert text_of(chunks) == whole["choices"][0]["message"]["content"]
    *others, last = chunks
    assert last["choices"] == []
    assert all("usage" in chunk and chunk["usage"] is None for chunk in others)
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert last["usage"][name] == whole["usage"][name]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert others[0]["choices"][0]["delta"]["role"] == "assistant"
    assert others[-1]["choices"][0]["finish_reason"] == "stop"


async def test_usage_is_in_a_stream_only_when_asked_for(platform) -> None:
    chunks, done = await platform.stream(CHAT, {**PARIS, "max_tokens": 2})
    assert done
    assert all("usage" not in chunk for chunk in chunks)


async def test_several_choices_are_all_counted(platform) -> None:
    body = {**PARIS, "n": 3, "temperature": 1, "seed": 7, "max_tokens": 6, "stop": None}
    whole = (await platform.post(CHAT, body)).json()
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    one = (await platform.post(CHAT, {**body, "n": 1})).json()
    assert whole["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]
    assert 6 < whole["usage"]["completion_tokens"] <= 18
    chunks, _ = await platform.stream(CHAT, {**body, "stream_options": {"include_usage": True}})
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    for index in range(3):
        assert text_of(chunks, index) == whole["choices"][index]["message"]["content"]


async def test_a_list_of_prompts_is_all_counted(platform) -> None:
    body = {"model": "smollm2", "prompt": ["Once upon", "I am"], "max_tokens": 3, "temperature": 0}
    both = (await platform.post("/v1/completions", body)).json()
    single = [
        (await platform.post("/v1/completions", {**body, "prompt": prompt})).json()
        for prompt in body["prompt"]
    ]
    assert [choice["text"] for choice in both["choices"]] == [one["choices"][0]["text"] for one in single]
    for name in ("prompt_tokens", "completion_tokens"):
        assert both["usage"][name] == sum(one["usage"][name] for one in single)


async def test_the_prompt_cache_is_reported(platform) -> None:
    messages = [{"role": "user", "content": "Count the wheels of seven tricycles and three bicycles."}]
    body = {**PARIS, "messages": messages, "max_tokens": 1}
    await platform.post(CHAT, body)
    usage = (await platform.post(CHAT, body)).json()["usage"]
    assert usage["prompt_cache_hit_tokens"] > 15
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_cache_hit_tokens"]


async def test_a_json_schema_is_obeyed(platform) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
        "required": ["city", "people"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    answer = (await platform.post(CHAT, {**PARIS, "response_format": wanted, "max_tokens": 80})).json()
    place = json.loads(answer["choices"][0]["message"]["content"])
    assert set(place) == {"city", "people"}
    assert isinstance(place["people"], int)


async def test_a_prefix_is_continued_and_not_repeated(platform) -> None:
    prefix = "The capital of France is the city of"
    messages = [*PARIS["messages"], {"role": "assistant", "content": prefix, "prefix": True}]
    whole = (await platform.post(CHAT, {**PARIS, "messages": messages})).json()
    text = whole["choices"][0]["message"]["content"]
    assert "Paris" in text
    assert prefix not in text
    chunks, _ = await platform.stream(CHAT, {**PARIS, "messages": messages})
    assert text_of(chunks) == text


async def test_log_probabilities(platform) -> None:
    body = {**PARIS, "logprobs": True, "top_logprobs": 2, "max_tokens": 3}
    choice = (await platform.post(CHAT, body)).json()["choices"][0]
    assert len(choice["logprobs"]["content"]) == 3
    assert all(len(entry["top_logprobs"]) == 2 for entry in choice["logprobs"]["content"])
    assert "".join(entry["token"] for entry in choice["logprobs"]["content"]) == choice["message"]["content"]


async def test_no_tokens_at_all(platform) -> None:
    body = {"model": "smollm2", "prompt": "Once upon a time", "max_tokens": 0, "echo": True}
    answer = (await platform.post("/v1/completions", body)).json()
    assert answer["choices"][0]["text"] == "Once upon a time"
    assert answer["usage"]["completion_tokens"] == 0
    assert answer["usage"]["prompt_tokens"] == 4


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"model": "gpt-9"}, 404, "model_not_found", "model"),
        ({"temperature": 9}, 400, "invalid_value", "temperature"),
        (
            {"messages": [{"role": "user", "content": "word " * 3000}]},
            400,
            "context_length_exceeded",
            "messages",
        ),
        (
            {
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
                "tool_choice": "required",
            },
            400,
            "unsupported_parameter",
            "tool_choice",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_refusals(platform, change, status, code, param, stream) -> None:
    response = await platform.post(CHAT, {**PARIS, **change, "stream": stream})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    if code == "context_length_exceeded":
        assert "2048" in error["message"]


async def test_a_schema_the_engine_cannot_follow_is_refused(platform) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "no such type"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    response = await platform.post(CHAT, {**PARIS, "response_format": wanted})
    assert response.status_code == 400
    assert "no such type" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/v1/completions", {"prompt": [10**10]}),
        ("/v1/completions", {"prompt": [60_000]}),
        ("/v1/completions", {"prompt": [60_000], "echo": True}),
        ("/v1/embeddings", {"input": [60_000]}),
        (
            "/v1/chat/completions",
            {
                "messages": [*PARIS["messages"], *[{"role": "assistant", "content": "a"}] * 2],
            },
        ),
        (
            "/v1/chat/completions",
            {
                "messages": PARIS["messages"],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "x",
                        "schema": {
                            "properties": {"a": {"type": "string", "minLength": 10**6}},
                            "required": ["a"],
                        },
                    },
                },
            },
        ),
    ],
)
async def test_what_the_engine_cannot_take_is_refused_and_hurts_nobody(platform, path, change) -> None:
    response = await platform.post(path, {"model": "smollm2", **change})
    assert response.status_code == 400, response.text
    assert (await platform.post(CHAT, {**PARIS, "max_tokens": 1})).status_code == 200
