"""Answers over HTTP: streamed, stored, refused, broken off, cancelled, joined."""

import asyncio
import json
from typing import Any

import pytest

from moonpool.core.body import Outcome
from moonpool.core.errors import ConnectionReset, Unavailable
from moonpool.core.message import Response

HELLO = {"content": "Hello"}


async def read_message(chat: Any, conversation: str, id: str) -> dict[str, Any]:
    answer = await chat.call("GET", f"{conversation}/messages/{id}")
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


async def settled(chat: Any, conversation: str, id: str) -> dict[str, Any]:
    """The message once it runs no more."""
    async with asyncio.timeout(3.0):
        while (message := await read_message(chat, conversation, id))["status"] == "streaming":
            await asyncio.sleep(0.01)
    return message


async def test_a_stream_is_passed_on_and_stored(
    chat: Any, model: Any, wire: Any, conversation: str, member: Any
) -> None:
    model.says("Hi", " there")
    answer = await chat.call("POST", f"{conversation}/messages", json=HELLO)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert wire.words(answer.text) == "Hi there"
    assert answer.text.endswith("data: [DONE]\n\n")
    assert all(line == "" or line.startswith("data: ") for line in answer.text.splitlines())

    stored = (await chat.call("GET", f"{conversation}/messages")).json()["data"]
    question, reply = stored
    assert question["id"] == answer.headers["x-moonpool-question"]
    assert reply["id"] == answer.headers["x-moonpool-message"]
    assert (question["role"], question["content"], question["parent"]) == ("user", "Hello", None)
    assert (reply["role"], reply["content"], reply["parent"]) == ("assistant", "Hi there", question["id"])
    assert (reply["status"], reply["finish_reason"], reply["model"]) == ("completed", "stop", "m")
    assert reply["usage"] == {
        "prompt_tokens": 7,
        "cached_tokens": 5,
        "completion_tokens": 2,
        "reasoning_tokens": 0,
    }
    assert model.principals == [member]
    assert model.request_ids == [reply["id"]]


async def test_without_stream_the_stored_message_is_the_answer(
    chat: Any, model: Any, conversation: str
) -> None:
    model.says("Hi")
    body = {**HELLO, "stream": False, "temperature": 0, "max_tokens": 9, "model": "other"}
    answer = await chat.call("POST", f"{conversation}/messages", json=body)
    assert answer.status_code == 201
    assert answer.json() == await read_message(chat, conversation, answer.json()["id"])
    assert answer.json()["content"] == "Hi"
    assert model.requests == [
        {
            "model": "other",
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0,
            "max_tokens": 9,
        }
    ]


async def test_the_model_sees_the_system_prompt_and_the_history(chat: Any, model: Any) -> None:
    created = await chat.call("POST", "/api/conversations", json={"system_prompt": "Be brief."})
    path = f"/api/conversations/{created.json()['id']}/messages"
    for question, answer in (("one", "1"), ("two", "2")):
        model.says(answer)
        await chat.call("POST", path, json={"content": question, "stream": False})
    assert [(turn["role"], turn["content"]) for turn in model.requests[1]["messages"]] == [
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", "1"),
        ("user", "two"),
    ]
    assert model.requests[1]["model"] == "smollm2"


async def test_the_first_question_names_the_conversation(chat: Any, model: Any) -> None:
    created = (await chat.call("POST", "/api/conversations", json={})).json()
    model.says("Hi")
    path = f"/api/conversations/{created['id']}"
    await chat.call("POST", f"{path}/messages", json={"content": "What  is\na reef?", "stream": False})
    assert (await chat.call("GET", path)).json()["title"] == "What is a reef?"


async def test_messages_are_listed_in_order_and_in_pages(chat: Any, model: Any, conversation: str) -> None:
    for number in range(3):
        model.says(f"a{number}")
        await chat.call("POST", f"{conversation}/messages", json={"content": f"q{number}", "stream": False})
    page = (await chat.call("GET", f"{conversation}/messages?limit=4")).json()
    assert [message["content"] for message in page["data"]] == ["q0", "a0", "q1", "a1"]
    assert page["has_more"] is True
    after = page["data"][-1]["id"]
    rest = (await chat.call("GET", f"{conversation}/messages?after={after}")).json()
    assert [message["content"] for message in rest["data"]] == ["q2", "a2"]
    last = (await chat.call("GET", f"{conversation}/messages?order=desc&limit=1")).json()
    assert [message["content"] for message in last["data"]] == ["a2"]


async def test_an_answer_goes_on_when_the_client_leaves(
    chat: Any, model: Any, wire: Any, conversation: str
) -> None:
    live = wire.Live(chat, "POST", f"{conversation}/messages", HELLO)
    opening = asyncio.create_task(live.open())
    stream = await model.next_stream()
    stream.feed(wire.chunk("Half"))
    await opening
    await live.until("Half")
    await live.leave()
    assert model.outcome() is None
    stream.feed(wire.chunk(" whole") + wire.DONE)
    stream.finish()
    message = await settled(chat, conversation, live.headers["x-moonpool-message"])
    assert (message["status"], message["content"]) == ("completed", "Half whole")
    assert model.outcome() is Outcome.COMPLETED


async def test_a_running_answer_is_joined_from_its_beginning(
    chat: Any, model: Any, wire: Any, conversation: str
) -> None:
    first = wire.Live(chat, "POST", f"{conversation}/messages", HELLO)
    opening = asyncio.create_task(first.open())
    stream = await model.next_stream()
    stream.feed(wire.chunk("one "))
    await opening
    path = f"{conversation}/messages/{first.headers['x-moonpool-message']}/stream"
    second = await wire.Live(chat, "GET", path).open()
    await second.until("one ")
    stream.feed(wire.chunk("two") + wire.DONE)
    stream.finish()
    await first.until("[DONE]")
    await second.until("[DONE]")
    assert first.text == second.text
    assert wire.words(second.text) == "one two"


async def test_an_answer_that_is_over_can_be_streamed_again(
    chat: Any, model: Any, wire: Any, conversation: str
) -> None:
    model.says("Hi", " there")
    asked = await chat.call("POST", f"{conversation}/messages", json=HELLO)
    again = await chat.call("GET", f"{conversation}/messages/{asked.headers['x-moonpool-message']}/stream")
    assert wire.words(again.text) == "Hi there"
    assert again.text.count('"finish_reason":"stop"') == 1
    assert again.text.endswith("data: [DONE]\n\n")
    question = await chat.call(
        "GET", f"{conversation}/messages/{asked.headers['x-moonpool-question']}/stream"
    )
    assert question.status_code == 400


async def test_one_running_answer_a_conversation(chat: Any, model: Any, wire: Any, conversation: str) -> None:
    live = wire.Live(chat, "POST", f"{conversation}/messages", HELLO)
    opening = asyncio.create_task(live.open())
    stream = await model.next_stream()
    await opening
    refused = await chat.call("POST", f"{conversation}/messages", json=HELLO)
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "answer_running"
    stream.feed(wire.DONE)
    stream.finish()
    await live.until("[DONE]")
    model.says("Hi")
    assert (await chat.call("POST", f"{conversation}/messages", json=HELLO)).status_code == 200
    assert len((await chat.call("GET", f"{conversation}/messages")).json()["data"]) == 4


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_reaches_the_client_as_it_is(
    chat: Any, model: Any, conversation: str, stream: bool
) -> None:
    error = {"message": "slow down", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
    headers = [(b"retry-after", b"7"), (b"content-type", b"application/json")]
    model.answers.append(Response(429, headers, json.dumps({"error": error}).encode()))
    refused = await chat.call("POST", f"{conversation}/messages", json={**HELLO, "stream": stream})
    assert refused.status_code == 429
    assert refused.json() == {"error": error}
    assert refused.headers["retry-after"] == "7"
    message = await read_message(chat, conversation, refused.headers["x-moonpool-message"])
    assert message["status"] == "failed"
    assert message["error"] == error


async def test_no_model_is_an_error_with_its_status(chat: Any, model: Any, conversation: str) -> None:
    model.answers.append(Unavailable("no instance", retry_after=3.0))
    refused = await chat.call("POST", f"{conversation}/messages", json=HELLO)
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "3"
    assert refused.json()["error"]["code"] == "service_unavailable"


async def test_an_answer_without_events_is_malformed(chat: Any, model: Any, conversation: str) -> None:
    model.answers.append(Response(200, [(b"content-type", b"text/html")], b"<p>"))
    refused = await chat.call("POST", f"{conversation}/messages", json=HELLO)
    assert refused.status_code == 502


@pytest.mark.parametrize("broken", ["reset", "error event", "truncated", "not a chunk"])
async def test_a_stream_that_breaks_ends_with_an_error_and_is_kept(
    chat: Any, model: Any, wire: Any, conversation: str, broken: str
) -> None:
    live = wire.Live(chat, "POST", f"{conversation}/messages", HELLO)
    opening = asyncio.create_task(live.open())
    stream = await model.next_stream()
    stream.feed(wire.chunk("Half"))
    await opening
    if broken == "reset":
        stream.fail(ConnectionReset("the engine is gone"))
    elif broken == "error event":
        stream.feed(b'data: {"error":{"message":"stalled","type":"server_error","code":"s"}}\n\n')
        stream.feed(wire.DONE)
    elif broken == "truncated":
        stream.finish()
    else:
        stream.feed(b"data: <html>\n\n")
    await live.finish()
    assert wire.words(live.text) == "Half"
    assert "[DONE]" not in live.text
    message = await settled(chat, conversation, live.headers["x-moonpool-message"])
    assert (message["status"], message["content"]) == ("failed", "Half")
    assert message["error"]["message"] in live.text
    again = await chat.call("GET", f"{conversation}/messages/{message['id']}/stream")
    assert wire.words(again.text) == "Half"
    assert "[DONE]" not in again.text
    assert message["error"]["message"] in again.text


async def test_cancel_stops_the_model_and_keeps_what_arrived(
    chat: Any, model: Any, wire: Any, conversation: str
) -> None:
    live = wire.Live(chat, "POST", f"{conversation}/messages", HELLO)
    opening = asyncio.create_task(live.open())
    stream = await model.next_stream()
    stream.feed(wire.chunk("Half"))
    await opening
    await live.until("Half")
    path = f"{conversation}/messages/{live.headers['x-moonpool-message']}/cancel"
    cancelled = await chat.call("POST", path)
    assert cancelled.status_code == 200
    assert (cancelled.json()["status"], cancelled.json()["content"]) == ("cancelled", "Half")
    assert model.outcome() is Outcome.CANCELLED
    await live.until("answer_cancelled")
    assert "[DONE]" not in live.text
    assert (await chat.call("POST", path)).json()["status"] == "cancelled"


async def test_deleting_a_conversation_stops_its_answer(
    chat: Any, model: Any, wire: Any, conversation: str
) -> None:
    live = wire.Live(chat, "POST", f"{conversation}/messages", HELLO)
    opening = asyncio.create_task(live.open())
    await model.next_stream()
    await opening
    assert (await chat.call("DELETE", conversation)).status_code == 200
    await live.until("answer_cancelled")
    assert model.outcome() is Outcome.CANCELLED


async def test_a_question_without_an_answer_is_not_sent_again(
    chat: Any, model: Any, conversation: str
) -> None:
    model.answers.append(Unavailable("away"))
    await chat.call("POST", f"{conversation}/messages", json={"content": "lost"})
    model.says("Hi")
    await chat.call("POST", f"{conversation}/messages", json=HELLO)
    assert [turn["content"] for turn in model.requests[-1]["messages"]] == ["Hello"]
