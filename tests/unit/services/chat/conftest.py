"""A model that a test plays itself, and the chat service in front of it."""

import asyncio
import json
from typing import Any

import pytest

from moonpool.contracts import context
from moonpool.contracts.clients import Clients
from moonpool.core.body import Outcome, Stream
from moonpool.core.errors import MoonpoolError
from moonpool.core.message import Response
from moonpool.core.principal import Principal, Role

MEMBER = Principal(user="user_member", tenant="org_test", role=Role.MEMBER)
EVENT_STREAM = [(b"content-type", b"text/event-stream; charset=utf-8")]


class Model:
    """An InferenceClient. Each call takes the next of `answers`, or opens a stream for the test to feed."""

    def __init__(self) -> None:
        self.answers: list[Response | MoonpoolError] = []
        self.requests: list[dict[str, Any]] = []
        self.principals: list[Principal] = []
        self.request_ids: list[str] = []
        self.streams: list[Stream] = []
        self.called = asyncio.Event()

    async def chat(self, principal: Principal, body: bytes, *, request_id: str) -> Response:
        self.requests.append(json.loads(body))
        self.principals.append(principal)
        self.request_ids.append(request_id)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, MoonpoolError):
                raise answer
            return answer
        stream = Stream()
        self.streams.append(stream)
        self.called.set()
        return Response(200, EVENT_STREAM, stream)

    def says(self, *words: str) -> None:
        """The next call is answered with `words`, whole."""
        body = b"".join(chunk(word) for word in words) + chunk(None, finish="stop") + USAGE + DONE
        self.answers.append(Response(200, EVENT_STREAM, body))

    async def next_stream(self) -> Stream:
        await asyncio.wait_for(self.called.wait(), 2.0)
        self.called.clear()
        return self.streams[-1]

    def outcome(self) -> Outcome | None:
        return self.streams[-1].outcome


def chunk(content: str | None, finish: str | None = None) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    data = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps({**data, 'choices': [choice], 'usage': None})}\n\n".encode()


USAGE = (
    b'data: {"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,'
    b'"prompt_cache_hit_tokens":5}}\n\n'
)
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
async def chat(make_parts: Any, run_service: Any, model: Model) -> Any:
    return await run_service(await make_parts("chat", clients=Clients(inference=model)))


@pytest.fixture
async def conversation(chat: Any) -> str:
    answer = await chat.call("POST", "/api/conversations", json={"model": "m"})
    assert answer.status_code == 201, answer.text
    return f"/api/conversations/{answer.json()['id']}"


class Live:
    """A request whose answer is read as it comes, and that can be left (httpx's ASGI transport waits for the
    whole answer)."""

    def __init__(
        self, service: Any, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        parts = service.parts
        signed = context.sign(
            parts.context_key, issuer="gateway", audience="chat", principal=MEMBER, now=parts.clock.time()
        )
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [
                (context.HEADER, signed),
                (b"content-type", b"application/json"),
                *((name.encode(), value.encode()) for name, value in (headers or {}).items()),
            ],
            "client": ("test", 1),
            "server": ("test", 80),
        }
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": content, "more_body": False})
        self._outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._app = service.client._transport.app
        self.text = ""

    async def open(self) -> "Live":
        self.task = asyncio.create_task(
            self._app(self._scope, self._incoming.get, self._outgoing.put)  # type: ignore[arg-type]
        )
        start = await asyncio.wait_for(self._outgoing.get(), 2.0)
        self.status = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return self

    async def until(self, text: str) -> None:
        """Read on until `text` has come."""
        while text not in self.text:
            assert await self._more(), f"ended without {text!r}: {self.text}"

    async def finish(self) -> None:
        """Read to the end."""
        while await self._more():
            pass
        self._incoming.put_nowait({"type": "http.disconnect"})  # as servers do when an answer is complete
        await asyncio.wait_for(self.task, 2.0)

    async def _more(self) -> bool:
        message = await asyncio.wait_for(self._outgoing.get(), 2.0)
        self.text += message["body"].decode()
        return bool(message["more_body"])

    async def leave(self) -> None:
        """Close the connection."""
        self._incoming.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(self.task, 2.0)


def words(stream: str) -> str:
    """The text that a stream of chunks carries."""
    events = [line[6:] for line in stream.splitlines() if line.startswith("data: {")]
    choices = [choice for event in events for choice in json.loads(event).get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


class Wire:
    """The names above, for tests (test modules cannot import each other)."""

    Live = Live
    chunk = staticmethod(chunk)
    words = staticmethod(words)
    USAGE = USAGE
    DONE = DONE
    EVENT_STREAM = EVENT_STREAM


@pytest.fixture
def wire() -> type[Wire]:
    return Wire
