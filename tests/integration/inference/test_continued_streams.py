"""Streams of the real model that break anywhere, and go on at a second engine: nobody can tell."""

import asyncio
import importlib
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moonpool.contracts.config import PlatformConfig
from moonpool.core.body import Stream, Transform
from moonpool.core.errors import ConnectionReset, UpstreamError
from moonpool.core.message import Request
from moonpool.http.address import Address
from moonpool.http.client import Client
from moonpool.http.reading import read
from moonpool.middleware.continuation import continuable
from moonpool.middleware.continuation_request import CONTINUED, TRACED, local_body
from moonpool.middleware.continued import Ceremony, Continued, Source
from moonpool.middleware.transcript import Transcript
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest

from .conftest import ENGINE, Platform, parts_of, serve

pytestmark = pytest.mark.real_model

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
LIMIT = 1 << 20


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    app = importlib.import_module("moonpool.services.inference.app")
    folder = tmp_path_factory.mktemp("second")
    path = str(folder / "s.sock")
    server, thread = serve(app.create(parts_of(PlatformConfig(engine=ENGINE), folder)), path)
    yield Platform(path)
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    client = Client()
    yield client
    await client.aclose()


@pytest.fixture
async def victim(tmp_path: Path) -> AsyncIterator[tuple[Platform, asyncio.subprocess.Process]]:
    """An instance in a process of its own."""
    path = tmp_path / "s.sock"
    script = Path(__file__).with_name("instance_process.py")
    process = await asyncio.create_subprocess_exec(sys.executable, str(script), str(path))
    platform = Platform(str(path))
    async with asyncio.timeout(60):
        while not path.exists():
            assert process.returncode is None
            await asyncio.sleep(0.05)
        await platform.until(lambda load: load["slots"] > 0)
    yield platform, process
    if process.returncode is None:
        process.kill()
    await process.wait()


class Cut:
    """Breaks a body after so many bytes."""

    def __init__(self, after: int) -> None:
        self._left = after

    def chunk(self, data: bytes) -> bytes:
        if self._left <= 0:
            raise ConnectionReset("cut")
        passed, self._left = data[: self._left], self._left - len(data)
        return passed

    def finish(self) -> bytes:
        return b""


class Asker:
    """Asks one platform after the other, each continuing what the one before left."""

    def __init__(self, client: Client, platforms: list[Platform], path: str, change: dict[str, Any]) -> None:
        prompt: dict[str, Any] = {"prompt": "The three tallest mountains are"}
        if path == CHAT:
            prompt = {
                "messages": [{"role": "user", "content": "Repeat: 🎉 日本語 🦊, then tell of the fox."}]
            }
        fields = {
            "model": "smollm2",
            "temperature": 0,
            "max_tokens": 40,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        self._client = client
        self.platforms = platforms
        self.cuts: list[Transform] = []
        self._path = path
        self.body = msgspec.json.encode({**fields, **prompt, **change})
        schema = ChatCompletionRequest if path == CHAT else CompletionRequest
        self._payload = parse(schema, self.body)
        self._calls = 0

    async def whole(self) -> bytes:
        return await read((await self._ask(self.body, {})).stream, LIMIT)

    async def broken(self) -> bytes:
        """The first streams break as `cuts` has it."""
        self._calls = 0
        self._left = list(self.cuts)
        answer = await read(Continued(await self._go_on(self.body, TRACED), self).stream, LIMIT)
        assert self._calls == len(self.cuts) + 1
        return answer

    def transcript(self) -> Transcript:
        return Transcript()

    def ceremony(self) -> Ceremony:
        return Ceremony(self._path == CHAT, True, 0)

    async def resume(self, transcript: Transcript, error: UpstreamError) -> Source | None:
        assert continuable(self._payload, transcript, local=True) is None
        return await self._go_on(local_body(self.body, transcript), CONTINUED)

    async def _go_on(self, body: bytes, headers: dict[bytes, bytes]) -> Source:
        source = await self._ask(body, headers)
        if self._left:
            source.stream.transform(self._left.pop(0))
        return source

    async def _ask(self, body: bytes, headers: dict[bytes, bytes]) -> Source:
        platform = self.platforms[self._calls % len(self.platforms)]
        self._calls += 1
        signed = {name.encode(): value.encode() for name, value in platform.headers().items()}
        response = await self._client.send(
            Address.parse(f"unix:{platform.path}"),
            Request("POST", self._path, "", {**signed, **headers}, body),
            connect_timeout=5,
            first_byte_timeout=60,
            idle_timeout=60,
        )
        assert response.status == 200
        assert isinstance(response.body, Stream)
        return Source(response.body, True)


def told(stream: bytes) -> tuple[str, list[str | None], dict[str, int]]:
    """The text, how it ended and the usage of a stream; what is in every chunk is the same in all of them."""
    events = stream.removesuffix(b"\n\n").split(b"\n\n")
    assert events.pop() == b"data: [DONE]"
    chunks = [msgspec.json.decode(event.removeprefix(b"data: ")) for event in events]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert sum("role" in choice.get("delta", ()) for choice in choices) <= 1
    text = "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)
    usage = chunks[-1]["usage"]
    counts = {name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    return text, [choice["finish_reason"] for choice in choices if choice["finish_reason"]], counts


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (CHAT, {}),
        (CHAT, {"stop": ["the fox is", "fox was"], "frequency_penalty": 0.5}),
        (CHAT, {"logprobs": True, "top_logprobs": 1}),
        (TEXT, {}),
    ],
    ids=["chat", "chat with stops", "chat with log probabilities", "completion"],
)
async def test_a_broken_stream_is_the_undisturbed_one(platform, second, client, path, change) -> None:
    asker = Asker(client, [platform, second], path, change)
    whole = await asker.whole()
    assert b":k=" not in whole
    undisturbed = told(whole)
    size = len(whole)
    for cuts in [(1,), (size // 10,), (size // 2, size // 5), (size * 4 // 5,)]:
        asker.cuts = [Cut(cut) for cut in cuts]
        broken = await asker.broken()
        assert b":k=" not in broken
        assert told(broken) == undisturbed, cuts


class Killer:
    """Kills a process after so many chunks of what it sends."""

    def __init__(self, process: asyncio.subprocess.Process, after: int) -> None:
        self._process = process
        self._left = after

    def chunk(self, data: bytes) -> bytes:
        self._left -= 1
        if self._left == 0:
            self._process.send_signal(signal.SIGKILL)
        return data

    def finish(self) -> bytes:
        return b""


async def test_an_instance_is_killed_while_it_speaks(victim, second, client) -> None:
    platform, process = victim
    asker = Asker(client, [second, platform], CHAT, {})
    undisturbed = told(await asker.whole())
    asker.cuts = [Killer(process, 12)]
    asker.platforms.reverse()
    assert told(await asker.broken()) == undisturbed
    assert await process.wait() == -signal.SIGKILL


async def test_both_slots_are_free_afterwards(platform, second, client) -> None:
    asker = Asker(client, [platform, second], CHAT, {})
    asker.cuts = [Cut(2000), Cut(1000)]
    await asker.broken()
    for one in (platform, second):
        await one.until(lambda load: load["running"] == 0)


async def test_another_revision_refuses_to_go_on(platform) -> None:
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "moonpool": {"answer": [1], "fingerprint": "fp_other"},
    }
    async with platform.client() as http:
        refused = await http.post(CHAT, json=body, headers={"x-moonpool-continue": "1"})
        ignored = await http.post(CHAT, json={**body, "max_tokens": 1})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "other_revision")
    assert ignored.status_code == 200  # the field means nothing without the gateway's header
