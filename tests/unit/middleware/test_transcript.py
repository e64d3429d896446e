"""What the events of a stream make of an answer."""

import msgspec
import pytest

from moonpool.contracts.continuation import Begun, Untold
from moonpool.middleware.transcript import Transcript


def event(delta: dict | None = None, line: bytes = b"", **choice: object) -> bytes:
    chunk = {"id": "c", "created": 2, "choices": [{"index": 0, "delta": delta or {}, **choice}]}
    return b"data: " + msgspec.json.encode(chunk) + line + b"\n\n"


def test_text_and_tokens_in_their_order() -> None:
    transcript = Transcript()
    for text, line in (("a", b"\n:k=1"), ("é", b"\n:k=~2"), ("bc", b"\n:k=3.4")):
        transcript.read(event({"content": text}, line))
    assert transcript.text == "aébc"
    assert transcript.count == 5
    assert transcript.begun() == Begun(answer=[1, Untold("é", 2), 3, 4], id="c", created=2)


def test_thoughts_are_no_text() -> None:
    transcript = Transcript()
    transcript.read(event({"reasoning_content": "Hm"}))
    transcript.read(event({"reasoning": "m", "content": None}))
    assert (transcript.text, transcript.reasoning, transcript.reasoning_count) == ("", "Hmm", 2)


@pytest.mark.parametrize(
    "nothing", [{"tool_calls": None}, {"tool_calls": []}, {"function_call": None}, {"refusal": ""}]
)
def test_null_is_no_tool_call(nothing: dict) -> None:
    transcript = Transcript()
    transcript.read(event({"content": "a", **nothing}))
    assert transcript.fault is None


def test_what_it_may_not_be_for_is_not_kept() -> None:
    transcript = Transcript(fault="tools")
    transcript.read(event({"content": "a"}))
    transcript.read(event(finish_reason="stop"))
    assert (transcript.text, transcript.finished) == ("", True)


def test_comments_are_nothing() -> None:
    transcript = Transcript()
    transcript.read(b": keep-alive\n\n")
    assert transcript.head is None
    assert not transcript.done
