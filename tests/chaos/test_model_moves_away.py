"""An alias moves from the local engine to an endpoint that somebody else runs, and back, under load."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.platform import Platform, running
from moonpool.adapters.spawner.control import ControlFleet
from moonpool.http.client import Client

pytestmark = pytest.mark.real_model

KEY = "sk-of-the-far-endpoint"


class Endpoint(BaseHTTPRequestHandler):
    """Another provider; `seen` is what it was sent."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, dict[str, str], dict[str, object]]]

    def do_GET(self) -> None:
        self._answer({"object": "list", "data": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        choice = {"index": 0, "message": {"role": "assistant", "content": "far"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        whole = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"]}
        self._answer({**whole, "choices": [choice], "usage": usage})

    def _answer(self, told: object) -> None:
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    Endpoint.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.setenv("FAR_KEY", KEY)
    with running(tmp_path / "data") as started:
        yield started


class Asking:
    """One answer after the other; who gave each."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._over = False
        self.by: list[str] = []
        self.faults: list[str] = []
        self._task = asyncio.create_task(self._ask())

    async def until(self, release: str, count: int = 3) -> None:
        """So many answers in a row from that release."""
        async with asyncio.timeout(60):
            while self.by[-count:] != [release] * count:
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        self._over = True
        await self._task

    async def _ask(self) -> None:
        while not self._over:
            answer = await asyncio.to_thread(self._platform.chat, "Hi", max_tokens=2, temperature=1)
            if answer.status != 200:
                self.faults.append(f"{answer.status} {answer.body[:200]!r}")
            self.by.append(answer.headers.get("x-moonpool-release", ""))


async def test_an_alias_moves_to_an_endpoint_and_back(platform: Platform, endpoint: str) -> None:
    options = ("--url", endpoint, "--model", "big", "--api-key-env", "FAR_KEY")
    added = platform.command("release", "add", "inference", "far", *options)
    assert added.returncode == 0, added.stderr
    client = Client()
    fleet = ControlFleet(platform.data / "run" / "control.json", client)
    asking = Asking(platform)
    await asking.until("inference@v1")

    await fleet.ensure("inference", "far", 1)
    async with asyncio.timeout(20):
        while not any(d.release == "far" and d.ready for d in await fleet.deployments("inference")):
            await asyncio.sleep(0.05)
    assert Endpoint.seen == []  # nobody has chosen it yet
    await fleet.remove("inference", "v1")
    await asking.until("inference@far")

    await fleet.ensure("inference", "v1", 1)
    await asking.until("inference@v1")
    await fleet.remove("inference", "far")
    await asking.until("inference@v1", 5)
    await asking.stop()
    await client.aclose()

    assert asking.faults == []
    for path, headers, body in Endpoint.seen:
        assert (path, body["model"], headers["authorization"]) == (
            "/v1/chat/completions",
            "big",
            f"Bearer {KEY}",
        )
        assert not any(name.startswith("x-moonpool") for name in headers)
