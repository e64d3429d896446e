import asyncio

import msgspec
import pytest

from harness.twins import CALLER, Twin
from moonpool.contracts.clients import Clients
from moonpool.core.body import Stream
from moonpool.core.errors import BadRequest, ConnectFailed, Overloaded, Unavailable
from moonpool.core.message import Response
from moonpool.http.reading import read
from moonpool.services.chat.schema import Exchange

MESSAGES = "/api/conversations/{conversation_id}/messages"
ONE = "/api/conversations/{conversation_id}"


def chunk(text: str = "", **more: object) -> bytes:
    choices = [{"index": 0, "delta": {"content": text} if text else {}, **more}]
    return b"data: " + msgspec.json.encode({"object": "chat.completion.chunk", "choices": choices}) + b"\n\n"


ANSWER = chunk("Hel") + chunk("lo") + chunk(finish_reason="stop") + b"data: [DONE]\n\n"


class Inference:
    def __init__(self) -> None:
        self.asked: list[dict] = []
        self.answer: Response | Exception = Response(200, [(b"content-type", b"text/event-stream")], ANSWER)

    async def chat(self, principal, body, *, request_id):
        assert principal == CALLER
        self.asked.append({**msgspec.json.decode(body), "id": request_id})
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def model() -> Inference:
    return Inference()


@pytest.fixture
def twin(model) -> Twin:
    return Twin("chat", model)


async def ask(twin: Twin, **fields: object) -> Response:
    response = await twin.ask(
        "POST", MESSAGES, msgspec.json.encode({"content": "Hi", **fields}), conversation_id="conv_1"
    )
    assert response is not None
    return response


def kept(twin: Twin) -> Exchange:
    ((request, route),) = twin.later.kept
    assert route == "/api/conversations/{conversation_id}/exchanges"
    assert request.path == "/api/conversations/conv_1/exchanges"
    exchange = msgspec.json.decode(request.body, type=Exchange)
    assert request.headers[b"idempotency-key"].decode() == exchange.answer_id
    return exchange


async def test_a_message_is_answered_and_kept_before_done(twin, model) -> None:
    response = await ask(twin)
    assert (response.status, response.header(b"content-type")) == (200, b"text/event-stream")
    assert await read(response.body, 10_000) == ANSWER
    exchange = kept(twin)
    assert (exchange.content, exchange.answer, exchange.status, exchange.finish_reason) == (
        "Hi", "Hello", "completed", "stop",
    )  # fmt: skip
    assert response.header(b"x-moonpool-message").decode() == exchange.answer_id == model.asked[0]["id"]
    assert response.header(b"x-moonpool-question").decode() == exchange.question_id
    assert (model.asked[0]["model"], model.asked[0]["stream"]) == ("smollm2", True)


async def test_with_the_history_that_is_known(twin, model) -> None:
    conversation = {"id": "conv_1", "title": None, "model": "big", "system_prompt": "Be brief."}
    twin.remember(
        ONE, msgspec.json.encode({**conversation, "created_at": 1, "updated_at": 1}), conversation_id="conv_1"
    )
    turns = [("msg_3", "assistant", "fine"), ("msg_1", "user", "How are you?")]
    data = [
        {"id": id, "conversation": "conv_1", "parent": None, "role": role, "content": content,
         "status": "completed", "created_at": 1, "updated_at": 1}
        for id, role, content in turns
    ]  # fmt: skip
    page = msgspec.json.encode({"data": data, "has_more": False})
    twin.remember(MESSAGES, page, query="order=desc", conversation_id="conv_1")
    await read((await ask(twin)).body, 10_000)
    asked = model.asked[0]
    assert asked["model"] == "big"
    assert [turn["content"] for turn in asked["messages"]] == ["Be brief.", "How are you?", "fine", "Hi"]


async def test_whole_instead_of_streamed(twin) -> None:
    response = await ask(twin, stream=False)
    message = msgspec.json.decode(response.body)
    assert (response.status, message["content"], message["status"]) == (201, "Hello", "completed")
    assert message["id"] == kept(twin).answer_id


async def test_an_answer_that_breaks_is_kept_as_failed_and_gets_no_done(twin, model) -> None:
    model.answer.body = chunk("Hel")
    response = await ask(twin)
    with pytest.raises(Exception, match="broke off"):
        await read(response.body, 10_000)
    assert (kept(twin).answer, kept(twin).status) == ("Hel", "failed")


async def test_a_client_that_leaves_keeps_what_had_come(twin, model) -> None:
    model.answer.body = upstream = Stream()
    response = await ask(twin)
    upstream.feed(chunk("Hel"))
    chunks = []

    class Leaves:
        def write(self, data: bytes) -> None:
            chunks.append(data)
            response.body.cancel()

        def close(self) -> None: ...

        def abort(self, error: Exception) -> None: ...

    response.body.connect(Leaves())
    async with asyncio.timeout(2):
        while not twin.later.kept:
            await asyncio.sleep(0)
    assert (kept(twin).answer, kept(twin).status) == ("Hel", "interrupted")
    assert response.body.outcome is not None


async def test_what_cannot_be_kept_gets_no_done(twin) -> None:
    twin.later.full = Overloaded("full")
    with pytest.raises(Overloaded):
        await read((await ask(twin)).body, 10_000)


@pytest.mark.parametrize(("status", "passes"), [(400, True), (429, True), (503, False)])
async def test_the_model_s_own_refusal(twin, model, status, passes) -> None:
    model.answer = Response(status, [], b'{"error":{"message":"too long","code":"c"}}')
    if passes:
        assert (await ask(twin)).status == status
    else:
        with pytest.raises(Unavailable, match="too long"):
            await ask(twin)
    assert twin.later.kept == []


async def test_no_model_either(twin, model) -> None:
    model.answer = ConnectFailed("no")
    with pytest.raises(ConnectFailed):
        await ask(twin)


async def test_what_is_no_message(twin) -> None:
    with pytest.raises(BadRequest):
        await twin.ask("POST", MESSAGES, b'{"content":""}', conversation_id="conv_1")


# ── and the service, when it is back ───────────────────────────────────────────────────────────────────


async def test_an_exchange_is_stored_once(make_parts, run_service, twin) -> None:
    response = await ask(twin)
    await read(response.body, 10_000)
    ((request, _),) = twin.later.kept
    parts = await make_parts("chat", clients=Clients(inference=Inference()))
    service = await run_service(parts)
    conversation = (await service.call("POST", "/api/conversations", json={})).json()["id"]
    other = (await service.call("POST", "/api/conversations", json={})).json()["id"]

    async def add(to: str):
        path, headers = f"/api/conversations/{to}/exchanges", {"content-type": "application/json"}
        return await service.call("POST", path, content=request.body, headers=headers)

    for _ in range(3):
        stored = await add(conversation)
        assert (stored.status_code, stored.json()["content"]) == (201, "Hello")
    messages = (await service.call("GET", f"/api/conversations/{conversation}/messages")).json()["data"]
    assert [(each["role"], each["content"]) for each in messages] == [("user", "Hi"), ("assistant", "Hello")]
    assert messages[1]["parent"] == messages[0]["id"]
    assert (await service.call("GET", f"/api/conversations/{conversation}")).json()["title"] == "Hi"
    assert (await add(other)).status_code == 409
    assert (await add("conv_none")).status_code == 404
