"""Answers that stop when the client leaves, and streams that fail."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
import structlog

from moonpool.core.errors import BadRequest, InternalError
from moonpool.services.inference.connected import Events, Whole

LOG = structlog.get_logger()


class Client:
    """The server's side of an ASGI connection."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.sent: list[dict] = []

    async def receive(self) -> dict[str, str]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def ended(self) -> bool:
        return not self.sent[-1].get("more_body", True)


@pytest.fixture
def client() -> Client:
    return Client()


class Stream:
    """Yields its steps; an error is raised, an event waited for."""

    def __init__(self, *steps: bytes | Exception | asyncio.Event) -> None:
        self.steps = steps
        self.closed = False

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        try:
            for step in self.steps:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield step
        finally:
            self.closed = True


async def test_a_whole_answer(client: Client) -> None:
    async def work() -> bytes:
        return b"{}"

    await Whole(work)({}, client.receive, client.send)
    assert (client.status, client.body, client.ended) == (200, b"{}", True)


async def test_an_error_is_rendered(client: Client) -> None:
    async def work() -> bytes:
        raise BadRequest("No.", param="x")

    await Whole(work)({}, client.receive, client.send)
    assert client.status == 400
    assert b'"param":"x"' in client.body


async def test_work_is_cancelled_when_the_client_leaves(client: Client) -> None:
    cancelled = asyncio.Event()

    async def work() -> bytes:
        try:
            return await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    running = asyncio.create_task(Whole(work)({}, client.receive, client.send))
    await asyncio.sleep(0)
    client.left.set()
    await running
    assert cancelled.is_set()
    assert client.sent == []


async def test_what_is_not_ours_reaches_the_process_boundary(client: Client) -> None:
    async def work() -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Whole(work)({}, client.receive, client.send)


async def test_a_stream(client: Client) -> None:
    await Events(Stream(b"data: 1\n\n", b"data: [DONE]\n\n"), LOG)({}, client.receive, client.send)
    assert client.status == 200
    assert dict(client.sent[0]["headers"])[b"content-type"].startswith(b"text/event-stream")
    assert client.body == b"data: 1\n\ndata: [DONE]\n\n"
    assert client.ended


async def test_a_failure_before_the_first_event_is_an_error_answer(client: Client) -> None:
    await Events(Stream(BadRequest("No.")), LOG)({}, client.receive, client.send)
    assert client.status == 400


async def test_a_refusal_at_once_is_an_error_answer(client: Client) -> None:
    def refuse() -> AsyncGenerator[bytes, None]:
        raise BadRequest("No.")

    await Events(refuse, LOG)({}, client.receive, client.send)
    assert client.status == 400


@pytest.mark.parametrize("error", [InternalError("Broken."), ZeroDivisionError("secret")])
async def test_a_failure_later_is_the_last_event(client: Client, error: Exception) -> None:
    await Events(Stream(b"data: 1\n\n", error), LOG)({}, client.receive, client.send)
    assert client.status == 200
    assert client.body.startswith(b'data: 1\n\ndata: {"error":{')
    assert b"[DONE]" not in client.body
    assert b"secret" not in client.body
    assert client.ended


async def test_a_stream_is_closed_when_the_client_leaves(client: Client) -> None:
    stream = Stream(b"data: 1\n\n", asyncio.Event())
    running = asyncio.create_task(Events(stream, LOG)({}, client.receive, client.send))
    while not client.body:
        await asyncio.sleep(0)
    client.left.set()
    await running
    assert stream.closed
    assert not client.ended


async def test_a_stream_is_closed_also_when_sending_fails(client: Client) -> None:
    async def send(message: dict) -> None:
        if message["type"] == "http.response.body":
            raise ConnectionResetError

    stream = Stream(b"data: 1\n\n", asyncio.Event())
    with pytest.raises(ConnectionResetError):
        await Events(stream, LOG)({}, client.receive, send)
    assert stream.closed
