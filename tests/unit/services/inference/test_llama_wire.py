"""llama.cpp's format, by events as its server sent them."""

import msgspec
import pytest

from moonpool.core.errors import BadRequest, InternalError, Unavailable, UpstreamMalformed
from moonpool.services.inference.engine import ChatPrompt, Finished, Piece, Sampling
from moonpool.services.inference.llama_wire import (
    EngineError,
    EventReader,
    chat_body,
    completion_body,
    read_vector,
    refusal,
    translate,
)


def read(*events: object, logprobs: int | None = None) -> list[Piece | Finished]:
    reader = EventReader(logprobs=logprobs)
    return [part for event in events for part in reader.feed(msgspec.json.encode(event))]


def delta(**fields: object) -> dict[str, object]:
    return {"choices": [{"finish_reason": None, "index": 0, "delta": fields}], "created": 1}


def test_a_chat() -> None:
    parts = read(
        {**delta(role="assistant", content=None), "prompt_progress": {"total": 27, "processed": 26}},
        delta(content="Par"),
        delta(reasoning_content="hm"),
        delta(content="is"),
        {"choices": [{"finish_reason": "stop", "index": 0, "delta": {}}]},
        {
            "choices": [],
            "usage": {
                "completion_tokens": 8,
                "prompt_tokens": 27,
                "prompt_tokens_details": {"cached_tokens": 26},
            },
            "timings": {"prompt_ms": 500, "predicted_ms": 250},
        },
    )
    assert parts == [
        Piece(text="Par"),
        Piece(reasoning="hm"),
        Piece(text="is"),
        Finished(
            reason="stop",
            prompt_tokens=27,
            cached_tokens=26,
            completion_tokens=8,
            prefill_seconds=0.5,
            decode_seconds=0.25,
        ),
    ]


def test_a_completion_ends_in_one_event() -> None:
    end = {
        "choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": "length"}],
        "usage": {"completion_tokens": 2, "prompt_tokens": 3},
    }
    parts = read(None, {"choices": [{"text": "a", "index": 0}]}, end)
    assert parts[0] == Piece(text="a")
    assert isinstance(parts[1], Finished)
    assert parts[1].reason == "length"


def test_log_probabilities_are_cut_to_what_was_asked_for() -> None:
    entry = {
        "id": 1,
        "token": "a",
        "bytes": [97],
        "logprob": -0.5,
        "top_logprobs": [{"id": 1, "token": "a", "bytes": [97], "logprob": -0.5}],
    }
    event = {"choices": [{"text": "a", "logprobs": {"content": [entry]}}]}
    for wanted, count in ((1, 1), (0, 0)):
        [piece] = read(event, logprobs=wanted)
        assert isinstance(piece, Piece)
        assert len(piece.logprobs[0].top_logprobs) == count
    assert read(event) == [Piece(text="a")]


def test_tool_calls_in_pieces() -> None:
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    parts = read(delta(tool_calls=[first]), delta(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}]))
    encoded = [msgspec.to_builtins(list(part.tool_calls)) for part in parts if isinstance(part, Piece)]
    assert encoded == [[first], [{"index": 0, "function": {"arguments": "{}"}}]]


def test_an_over_long_prompt_tells_both_numbers() -> None:
    error = {"code": 400, "message": "request (20031 tokens)…", "n_prompt_tokens": 20031, "n_ctx": 2048}
    with pytest.raises(BadRequest) as caught:
        read({"error": error})
    assert caught.value.code == "context_length_exceeded"
    assert "20031" in caught.value.message
    assert "2048" in caught.value.message


@pytest.mark.parametrize(
    ("code", "kind"), [(400, BadRequest), (501, BadRequest), (503, Unavailable), (500, InternalError)]
)
def test_errors_of_the_engine(code: int, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        read({"error": {"code": code, "message": "m", "type": "t"}})


def test_what_it_throws_and_what_is_no_event() -> None:
    assert isinstance(refusal(ValueError("bad schema")), BadRequest)
    internal = refusal(RuntimeError("/secret/path"))
    assert isinstance(internal, InternalError)
    assert "/secret" not in internal.message
    with pytest.raises(UpstreamMalformed):
        read("text")


def test_bodies() -> None:
    sampling = Sampling(
        max_tokens=5, seed=-1, stop=["x"], logit_bias={"7": -100.0}, logprobs=0, repeat_penalty=1.1
    )
    body = msgspec.json.decode(completion_body([1, 2], sampling))
    assert body["prompt"] == [1, 2]
    assert body["stream"] is body["cache_prompt"] is body["return_progress"] is True
    assert body["seed"] == 2**32 - 2
    assert body["logit_bias"] == [[7, -100.0]]
    assert body["logprobs"] == 1
    assert "temperature" not in body
    prompt = ChatPrompt(messages=[{"role": "user", "content": "x"}])
    chat = msgspec.json.decode(chat_body(prompt, Sampling(logprobs=3)))
    assert (chat["logprobs"], chat["top_logprobs"]) == (True, 3)
    assert chat["stream_options"] == {"include_usage": True}
    assert "tools" not in chat


def test_vectors() -> None:
    answer = {"data": [{"embedding": [0.5, 1.0]}], "usage": {"prompt_tokens": 3}}
    vector = read_vector(msgspec.json.encode(answer))
    assert (vector.values, vector.tokens) == ([0.5, 1.0], 3)
    with pytest.raises(UpstreamMalformed):
        read_vector(b'{"data": []}')
    with pytest.raises(InternalError):
        read_vector(b'{"error": {"code": 500, "message": "x"}}')


@pytest.mark.parametrize(
    "said",
    [
        "Unable to generate parser: JSON schema error at #/properties/a: unrecognized type x",
        "failed to parse grammar",
        "Unable to generate parser for this template. Automatic parser generation failed: At least one of it",
    ],
)
def test_a_schema_that_cannot_be_followed_is_blamed_on_its_parameter(said: str) -> None:
    for error in (
        refusal(ValueError(said), "response_format"),
        translate(EngineError(said, 400), "response_format"),
    ):
        assert isinstance(error, BadRequest)
        assert error.param == "response_format"
        assert "parser" not in error.message
        assert "JSON schema" in error.message


def test_tokens_that_are_not_in_the_vocabulary_are_blamed_on_the_prompt() -> None:
    error = translate(EngineError("Prompt contains invalid tokens", 400))
    assert isinstance(error, BadRequest)
    assert (error.param, error.code) == ("prompt", "invalid_value")
    assert error.hint


def traced(*events: dict) -> list[Piece]:
    reader = EventReader(logprobs=None, traced=True)
    return [
        part
        for event in events
        for part in reader.feed(msgspec.json.encode(event))
        if isinstance(part, Piece)
    ]


def told(text: str, token: int | None, generated: int) -> dict:
    probabilities = None if token is None else {"content": [{"id": token, "token": text, "prob": 1.0}]}
    choice = {"delta": {"content": text}, "logprobs": probabilities}
    return {"choices": [choice], "timings": {"predicted_n": generated}}


def test_a_traced_piece_tells_its_tokens_when_it_knows_them_all() -> None:
    assert traced(told("a", 1, 1), told("🎉", 2, 4), told("b", 3, 5), told("", 4, 6), told(" c", 5, 7)) == [
        Piece(text="a", tokens=(1,), count=1),
        Piece(text="🎉", count=3),
        Piece(text="b", tokens=(3,), count=1),
        Piece(text=" c", tokens=(4, 5), count=2),
    ]


def test_what_the_last_event_still_held_is_counted() -> None:
    assert traced(told("a", 1, 1), told(" rest", None, 3)) == [
        Piece(text="a", tokens=(1,), count=1),
        Piece(text=" rest", count=2),
    ]


def test_tracing_asks_for_what_costs_little() -> None:
    body = msgspec.json.decode(completion_body([1], Sampling(traced=True)))
    assert (body["logprobs"], body["post_sampling_probs"], body["timings_per_token"]) == (1, True, True)
    body = msgspec.json.decode(completion_body([1], Sampling(traced=True, logprobs=3)))
    assert body["logprobs"] == 3
    assert "post_sampling_probs" not in body
