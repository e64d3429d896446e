"""The strict client of the chaos tests tells a whole answer from a cut, doubled or garbled one."""

import json
from typing import Any

import httpx
import pytest

from harness.exchanges import Ending, Seen, judge

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def event(text: str = "", *, finish: str | None = None, id: str = "c", **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": id, "choices": [choice], **more}).encode() + b"\n\n"


ERROR = {"message": "broke", "type": "server_error", "param": None, "code": "upstream_reset"}
TOLD = b"data: " + json.dumps({"error": ERROR}).encode() + b"\n\n"
COUNT = b"data: " + json.dumps({"id": "c", "choices": [], "usage": USAGE}).encode() + b"\n\n"
GOOD = event("Hel") + event("lo") + event(finish="stop") + COUNT


def streamed(body: bytes, wrong: str = "") -> Seen:
    return judge(200, httpx.Headers({"content-type": "text/event-stream"}), body, wrong, 0.0)


def whole(body: bytes, status: int = 200) -> Seen:
    return judge(status, httpx.Headers({"content-type": "application/json"}), body, "", 0.0)


def test_a_whole_stream() -> None:
    seen = streamed(b": keep-alive\n\n" + GOOD + DONE)

    assert (seen.ending, seen.text, seen.usage) == (Ending.ANSWERED, "Hello", USAGE)


def test_a_stream_that_tells_why_it_ends() -> None:
    seen = streamed(event("Hel") + TOLD)

    assert (seen.ending, seen.text, seen.code) == (Ending.BROKEN, "Hel", "upstream_reset")


@pytest.mark.parametrize(
    ("body", "ending"),
    [
        (b"", Ending.CUT),
        (GOOD, Ending.CUT),
        (event("Hel"), Ending.CUT),
        (event("Hel") + b'data: {"id"', Ending.NONSENSE),
        (event("Hel") + TOLD + DONE, Ending.NONSENSE),
        (event("Hel") + DONE, Ending.NONSENSE),
        (GOOD + DONE.rstrip(), Ending.NONSENSE),
        (GOOD + DONE + GOOD, Ending.NONSENSE),
        (GOOD + DONE + DONE, Ending.NONSENSE),
        (GOOD + COUNT + DONE, Ending.NONSENSE),
        (event("Hel", id="another") + GOOD + DONE, Ending.NONSENSE),
        (event("Hel") + b'data: {"error": {"message": "no more fields"}}\n\n', Ending.NONSENSE),
    ],
)
def test_what_a_stream_must_not_be(body: bytes, ending: Ending) -> None:
    assert streamed(body).ending is ending


def test_a_connection_that_breaks_is_a_cut_whatever_came() -> None:
    assert streamed(GOOD + DONE, wrong="incomplete").ending is Ending.CUT


def test_answers_and_refusals() -> None:
    choice = {"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}
    answer = {"choices": [choice], "usage": USAGE}
    assert whole(json.dumps(answer).encode()).ending is Ending.ANSWERED
    assert whole(json.dumps(answer).encode()[:-2]).ending is Ending.NONSENSE
    assert whole(b"").ending is Ending.NONSENSE
    assert whole(json.dumps({"error": ERROR}).encode(), 503).ending is Ending.REFUSED
    assert whole(json.dumps({"error": {"message": "x"}}).encode(), 503).ending is Ending.NONSENSE
    assert whole(b"<html>", 502).ending is Ending.NONSENSE
