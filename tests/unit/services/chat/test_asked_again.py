"""The same request arrives again, retried or replayed from a dead letter: nothing is there twice."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from harness.twins import CALLER, Twin
from moonpool.asgi.once import KEPT, Once
from moonpool.contracts.clients import Clients
from moonpool.core.errors import Unavailable
from moonpool.core.message import Response
from moonpool.http.reading import read
from moonpool.services.chat.leases import LEASE
from moonpool.services.chat.tables import done_requests

ALL = "/api/conversations"
HELLO = {"content": "Hello"}
FIRST = {"x-request-id": "req_1"}
REPLAY = {"x-request-id": "req_1", "idempotency-key": "req_1"}
RETRY = {"x-request-id": "req_2", "idempotency-key": "mine"}


async def stored(chat: Any, conversation: str, **who: Any) -> list[dict[str, Any]]:
    answer = await chat.call("GET", f"{conversation}/messages", **who)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_a_conversation_is_made_once(chat: Any) -> None:
    first = await chat.call("POST", ALL, json={"title": "x"}, headers=FIRST)
    again = await chat.call("POST", ALL, json={"title": "x"}, headers=REPLAY)
    assert (again.status_code, again.json()) == (201, first.json())
    other = await chat.call("POST", ALL, json={"title": "x"}, headers={"x-request-id": "req_2"})
    assert len((await chat.call("GET", ALL)).json()["data"]) == 2
    assert other.json()["id"] != first.json()["id"]


async def test_a_name_is_one_users_own(chat: Any, admin: Any) -> None:
    mine = await chat.call("POST", ALL, json={}, headers=RETRY)
    theirs = await chat.call("POST", ALL, json={}, headers=RETRY, caller=admin)
    assert theirs.status_code == 201
    assert mine.json()["id"] != theirs.json()["id"]


async def test_a_conversation_that_is_gone_was_deleted(chat: Any, conversation: str) -> None:
    """The gateway sends a DELETE again whose answer was lost."""
    for _ in range(2):
        assert (await chat.call("DELETE", conversation, headers=FIRST)).status_code == 200
    assert (await chat.call("DELETE", conversation, headers={"x-request-id": "req_2"})).status_code == 404


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_is_over_is_answered_again(
    chat: Any, model: Any, wire: Any, conversation: str, stream: bool
) -> None:
    model.says("Hi", " there")
    path, body = f"{conversation}/messages", {**HELLO, "stream": stream}
    first = await chat.call("POST", path, json=body, headers=FIRST)
    again = await chat.call("POST", path, json=body, headers=REPLAY)
    assert again.status_code == first.status_code
    for header in ("x-moonpool-question", "x-moonpool-message"):
        assert again.headers[header] == first.headers[header]
    if stream:
        assert wire.words(again.text) == wire.words(first.text) == "Hi there"
        assert again.text.endswith("data: [DONE]\n\n")
    else:
        assert again.json() == first.json()
    assert len(await stored(chat, conversation)) == 2
    assert len(model.requests) == 1


async def test_an_answer_that_runs_is_joined(chat: Any, model: Any, wire: Any, conversation: str) -> None:
    async def ask() -> Any:
        return await chat.call("POST", f"{conversation}/messages", json=HELLO, headers=RETRY)

    first = asyncio.create_task(ask())
    stream = await model.next_stream()
    second = asyncio.create_task(ask())
    await asyncio.sleep(0)
    stream.feed(wire.chunk("Hi") + wire.chunk(None, "stop") + wire.DONE)
    stream.finish()
    assert {wire.words((await task).text) for task in (first, second)} == {"Hi"}
    assert len(await stored(chat, conversation)) == 2


async def test_a_killed_answer_is_run_again_in_its_place(
    make_parts: Any, run_service: Any, model: Any, wire: Any
) -> None:
    """Killed after the commit, before the answer: the next instance finds the question and answers it."""
    clients = Clients(inference=model)
    chat = await run_service(await make_parts("chat", clients=clients, instance="chat-0-1"))
    conversation = f"{ALL}/{(await chat.call('POST', ALL, json={})).json()['id']}"
    lost = asyncio.create_task(
        chat.call("POST", f"{conversation}/messages", json={**HELLO, "stream": False}, headers=FIRST)
    )
    await model.next_stream()
    parts = await make_parts("chat", clients=clients, instance="chat-0-2", slot="chat-0")
    after = await run_service(parts)
    (question, killed) = await stored(after, conversation)
    assert killed["status"] == "interrupted"

    model.says("Whole")
    body = {**HELLO, "stream": False}
    again = await after.call("POST", f"{conversation}/messages", json=body, headers=REPLAY)
    assert (again.status_code, again.json()["content"]) == (201, "Whole")
    assert [message["id"] for message in await stored(after, conversation)] == [question["id"], killed["id"]]
    assert model.requests[-1]["messages"] == model.requests[0]["messages"]
    first, second = model.request_ids
    assert first == killed["id"]
    assert second.startswith(f"{first}."), "what the model did before is billed, and so is what it did now"
    lost.cancel()


async def test_an_answer_that_was_taken_for_dead_and_is_not_is_joined(
    chat: Any, model: Any, wire: Any, conversation: str
) -> None:
    """Its instance, ours, was held up for longer than its lease."""
    path, body = f"{conversation}/messages", {**HELLO, "stream": True}
    first = asyncio.create_task(wire.Live(chat, "POST", path, body, FIRST).open())
    stream = await model.next_stream()
    stream.feed(wire.chunk("Hi"))
    clients = [await first]
    chat.parts.clock.advance(LEASE + 1)
    clients.append(await wire.Live(chat, "POST", path, body, REPLAY).open())
    stream.feed(wire.chunk(None, "stop") + wire.DONE)
    stream.finish()
    for client in clients:
        await client.finish()
        assert wire.words(client.text) == "Hi"
    assert len(model.requests) == 1
    assert [message["status"] for message in await stored(chat, conversation)] == ["completed"] * 2


async def test_each_run_of_an_answer_has_its_own_usage(chat: Any, model: Any, conversation: str) -> None:
    path, body = f"{conversation}/messages", {**HELLO, "stream": False}
    model.answers += [Unavailable("no model"), Unavailable("still none")]
    model.says("Yes")
    calls = [await chat.call("POST", path, json=body, headers=REPLAY) for _ in range(4)]
    assert [call.status_code for call in calls] == [503, 503, 201, 201]
    assert len(set(model.request_ids)) == len(model.request_ids) == 3, "one that is whole is not run again"


async def test_what_the_conversation_has_left_behind_stays(chat: Any, model: Any, conversation: str) -> None:
    model.answers.append(Unavailable("no model", retry_after=1.0))
    path = f"{conversation}/messages"
    assert (await chat.call("POST", path, json=HELLO, headers=FIRST)).status_code == 503
    model.says("Yes")
    assert (await chat.call("POST", path, json={"content": "And now?"})).status_code == 200
    again = await chat.call("POST", path, json=HELLO, headers=REPLAY)
    assert json.loads(again.text.split("data: ")[-1])["error"]["message"] == "no model"
    assert len(await stored(chat, conversation)) == 4


async def test_what_is_old_is_forgotten(chat: Any) -> None:
    await chat.call("POST", ALL, json={}, headers=RETRY)
    chat.parts.clock.advance(KEPT + 1)
    once = Once(done_requests, chat.parts.database, chat.parts.clock)
    assert [await once.forget(), await once.forget()] == [1, 0]


# ── while the service is away ──────────────────────────────────────────────────────────────────────────────


class Stopped:
    """A model that answers nothing to the one who is killed, and to the twin what it is asked."""

    def __init__(self, wire: Any) -> None:
        self._wire = wire
        self.asked = asyncio.Event()

    async def chat(self, principal: Any, body: bytes, *, request_id: str) -> Response:
        if not self.asked.is_set():
            self.asked.set()
            await asyncio.Event().wait()
        content = self._wire.chunk("From the twin") + self._wire.chunk(None, "stop") + self._wire.DONE
        return Response(200, self._wire.EVENT_STREAM, content)


@pytest.mark.parametrize("gone_on", [False, True])
async def test_the_question_that_was_stored_is_not_added_with_its_exchange(
    make_parts: Any, run_service: Any, wire: Any, gone_on: bool
) -> None:
    """Killed after the commit; the gateway's twin answers and keeps the exchange, which is then delivered."""
    model = Stopped(wire)
    who = {"caller": CALLER}
    clients = Clients(inference=model)
    chat = await run_service(await make_parts("chat", clients=clients, instance="chat-0-1"))
    conversation = f"{ALL}/{(await chat.call('POST', ALL, json={}, **who)).json()['id']}"
    path = f"{conversation}/messages"
    body = msgspec.json.encode({**HELLO, "stream": False})
    headers = {"x-request-id": "req_1", "content-type": "application/json"}
    lost = asyncio.create_task(chat.call("POST", path, content=body, headers=headers, **who))
    await asyncio.wait_for(model.asked.wait(), 2.0)

    twin = Twin("chat", model)
    id = conversation.rpartition("/")[2]
    answer = await twin.ask("POST", f"{ALL}/{{conversation_id}}/messages", body, conversation_id=id)
    assert answer is not None
    told = json.loads(await read(answer.body, 10_000))
    assert told["content"] == "From the twin"
    parts = await make_parts("chat", clients=clients, instance="chat-0-2", slot="chat-0")
    after = await run_service(parts)
    if gone_on:
        assert (await after.call("POST", path, json={"content": "Go on", "stream": False}, **who)).is_success
    ((request, _),) = twin.later.kept
    for _ in range(2):
        sent = {name.decode(): value.decode() for name, value in request.headers.items()}
        sent["x-request-id"] = "req_1"
        kept = await after.call("POST", request.path, content=request.body, headers=sent, **who)
        assert kept.status_code == 201, kept.text

    found = await stored(after, conversation, **who)
    assert [message["content"] for message in found[:2]] == ["Hello", "From the twin"]
    assert found[1]["id"] == told["id"]
    assert found[1]["parent"] == found[0]["id"]
    assert len(found) == (4 if gone_on else 2)
    assert [message["parent"] for message in found[2:3]] == ([told["id"]] if gone_on else [])
    replay = {**headers, "idempotency-key": "req_1"}
    again = await after.call("POST", path, content=body, headers=replay, **who)
    assert again.json()["id"] == told["id"]
    lost.cancel()
