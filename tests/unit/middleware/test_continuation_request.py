"""What an endpoint is asked that goes on with another one's answer."""

import msgspec
import pytest

from moonpool.contracts.continuation import Continuing
from moonpool.middleware.continuation_request import Prefill, local_body, prefill_body
from moonpool.middleware.transcript import Transcript
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest

BODY = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
    "max_tokens": 10,
    "seed": 12345678901234567,
    "unknown": {"kept": 1.0},
}


def said(*texts: str, thought: str = "", line: bytes = b"") -> Transcript:
    transcript = Transcript()
    for delta in [{"reasoning_content": thought}] * bool(thought) + [{"content": text} for text in texts]:
        chunk = {
            "id": "c",
            "created": 3,
            "system_fingerprint": "f",
            "choices": [{"index": 0, "delta": delta}],
        }
        transcript.read(b"data: " + msgspec.json.encode(chunk) + b"\n" + line + b"\n")
    return transcript


def asked(change=None, transcript=None, prefill=Prefill.PREFIX) -> dict:
    body = msgspec.json.encode({**BODY, **(change or {})})
    payload = parse(ChatCompletionRequest, body)
    return msgspec.json.decode(prefill_body(body, payload, transcript or said("Oh", " my"), prefill))


def test_an_instance_gets_the_tokens() -> None:
    body = local_body(msgspec.json.encode(BODY), said("Oh", line=b":k=4.5\n"))
    begun = msgspec.json.decode(body, type=Continuing).moonpool
    assert (begun.answer, begun.id, begun.created, begun.fingerprint) == ([4, 5], "c", 3, "f")
    assert {**msgspec.json.decode(body), "moonpool": None} == {**BODY, "moonpool": None}


def test_an_endpoint_gets_the_text_as_the_beginning_of_the_answer() -> None:
    body = asked()
    assert body["messages"] == [
        BODY["messages"][0],
        {"role": "assistant", "content": "Oh my", "prefix": True},
    ]
    assert body["max_tokens"] == 8
    assert (body["seed"], body["unknown"]) == (BODY["seed"], BODY["unknown"])


def test_as_vllm_wants_it() -> None:
    body = asked(prefill=Prefill.FINAL)
    assert body["messages"][-1] == {"role": "assistant", "content": "Oh my"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


def test_a_clients_own_prefix_stays_before_it() -> None:
    prefix = {"role": "assistant", "content": "Well. ", "prefix": True}
    body = asked({"messages": [*BODY["messages"], prefix]})
    assert body["messages"][1:] == [{"role": "assistant", "content": "Well. Oh my", "prefix": True}]


def test_thoughts_go_with_it() -> None:
    assert asked(transcript=said("Oh", thought="Hm"))["messages"][-1]["reasoning_content"] == "Hm"


@pytest.mark.parametrize(("limits", "left"), [({"max_completion_tokens": 5}, 3), ({"max_tokens": 1}, 1)])
def test_no_limit_falls_below_one(limits, left) -> None:
    body = asked(limits)
    assert body[next(iter(limits))] == left


def test_an_answer_of_which_nothing_was_said_is_asked_for_again() -> None:
    assert asked(transcript=said()) == BODY


def test_a_completion() -> None:
    body = msgspec.json.encode({"model": "m", "prompt": "Once", "max_tokens": 10})
    payload = parse(CompletionRequest, body)
    continued = msgspec.json.decode(prefill_body(body, payload, said(" upon", " a")))
    assert continued == {"model": "m", "prompt": "Once upon a", "max_tokens": 8}
