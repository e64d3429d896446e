"""The second stream looks like the rest of the first."""

import msgspec
import pytest

from moonpool.middleware.continuation_splice import SHORTEST_REPEAT, Splice
from moonpool.middleware.transcript import Transcript

DONE = b"data: [DONE]\n\n"
BEGINNING = "Once upon a time, there was "


def event(delta=None, *, id: str = "second", reason=None, text=None, **fields) -> bytes:
    choice = {"index": 0, "finish_reason": reason}
    choice |= {"text": text} if text is not None else {"delta": delta or {}}
    head = {"id": id, "created": 9, "model": "other", "extra": 1}
    return b"data: " + msgspec.json.encode({**head, "choices": [choice], **fields}) + b"\n\n"


def said(text: str, events: int = 4) -> Transcript:
    transcript = Transcript()
    cut = -(-len(text) // events) or 1
    for at in range(0, len(text), cut):
        transcript.read(event({"content": text[at : at + cut]}, id="first"))
    return transcript


def splice(*data: bytes, before: str = BEGINNING) -> list[dict]:
    transform = Splice(said(before))
    out = b"".join([transform.chunk(piece) for piece in data]) + transform.finish()
    events = out.split(b"\n\n")[:-1]
    return [msgspec.json.decode(item[6:]) for item in events if item != b"data: [DONE]"]


def text_of(chunks: list[dict]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def words(text: str, size: int = 3) -> list[bytes]:
    return [event({"content": text[at : at + size]}) for at in range(0, len(text), size)]


def test_its_head_is_the_firsts_and_its_opening_is_dropped() -> None:
    first, last = splice(
        event({"role": "assistant", "content": ""}), event({"content": "a"}), event(reason="stop")
    )
    assert first == {
        "id": "first",
        "created": 9,
        "model": "other",
        "extra": 1,
        "choices": [{"index": 0, "finish_reason": None, "delta": {"content": "a"}}],
    }
    assert last["choices"][0]["finish_reason"] == "stop"


def test_a_role_beside_text_is_taken_out() -> None:
    (chunk,) = splice(event({"role": "assistant", "content": "a"}))
    assert chunk["choices"][0]["delta"] == {"content": "a"}


@pytest.mark.parametrize("size", [1, 5, len(BEGINNING) - 1, len(BEGINNING), len(BEGINNING) + 4, 1000])
def test_a_beginning_that_is_repeated_is_dropped(size: int) -> None:
    rest = "an old fox. Once upon a time"
    assert text_of(splice(*words(BEGINNING + rest, size))) == rest


def test_what_only_begins_like_a_repetition_is_kept() -> None:
    said_next = "Once upon a hill"
    assert text_of(splice(*words(said_next), DONE)) == said_next
    assert text_of(splice(*words("Once"), event(reason="stop"), DONE)) == "Once"


def test_a_short_beginning_is_never_taken_for_a_repetition() -> None:
    short = "ha" * ((SHORTEST_REPEAT - 1) // 2)
    assert text_of(splice(*words(short), before=short)) == short


def test_the_prompt_is_counted_once_and_the_answer_whole() -> None:
    usage = {
        "prompt_tokens": 24,
        "completion_tokens": 6,
        "total_tokens": 30,
        "prompt_tokens_details": {"cached_tokens": 22},
    }
    (chunk,) = splice(event({}, usage=usage))
    assert chunk["usage"]["prompt_tokens"] == 20
    assert chunk["usage"]["completion_tokens"] == 10
    assert chunk["usage"]["total_tokens"] == 30
    assert chunk["usage"]["prompt_tokens_details"]["cached_tokens"] == 20


def test_completions() -> None:
    chunks = splice(event(text=BEGINNING), event(text="a fox"))
    assert [choice["text"] for chunk in chunks for choice in chunk["choices"]] == ["a fox"]


def test_what_is_no_chunk_goes_through() -> None:
    transform = Splice(said(BEGINNING))
    odd = b": keep-alive\n\ndata: {broken\n\ndata: [1]\n\n" + DONE
    assert transform.chunk(odd) + transform.finish() == odd


def test_however_it_is_cut() -> None:
    whole = b"".join(words(BEGINNING + "a fox")) + DONE
    pieces = [whole[at : at + 1] for at in range(len(whole))]
    assert text_of(splice(*pieces)) == "a fox"
