"""Releases come and go on a real platform under load, and nobody is refused, reset or cut."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from harness.platform import PROGRAM, Platform, running, wait_until
from harness.steady import Steady, get
from harness.upgrading import add
from moonpool.adapters.spawner.control import ControlFleet
from moonpool.cli import release_documents
from moonpool.contracts.releases import CommandSource, EndpointSource, Overrides, Release
from moonpool.http.client import Client

EVENTS = 40
PACE = 0.1
"""Seconds between the events of a stream: four seconds in all."""
DRAIN = 1
"""Seconds to drain in when the platform ends: what is replaced has longer."""


class Endpoint(BaseHTTPRequestHandler):
    """A remote OpenAI-compatible endpoint that takes its time."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._whole(b'{"object": "list", "data": []}')

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(asked.get("max_tokens") or EVENTS):
            choice = {"index": 0, "delta": {"content": f"{number} "}, "finish_reason": None}
            self._event(json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}))
            time.sleep(PACE)
        stop = {"index": 0, "delta": {}, "finish_reason": "stop"}
        self._event(json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [stop]}))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def _whole(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, endpoint: str) -> Iterator[Platform]:
    limits = {"requests_per_minute": 1_000_000, "tokens_per_minute": 100_000_000, "concurrent": 1000}
    config = {
        "models": {"far": {"targets": [{"url": endpoint, "model": "m"}]}},
        "limits": {"default": limits},
        "gateway": {"drain_seconds": DRAIN},
    }
    with running(tmp_path_factory.mktemp("releases") / "data", config) as started:
        yield started


@pytest.fixture
async def fleet(platform: Platform) -> AsyncIterator[ControlFleet]:
    client = Client()
    yield ControlFleet(platform.data / "run" / "control.json", client)
    await client.aclose()


@pytest.fixture
async def load(platform: Platform) -> AsyncIterator[Steady]:
    """Clients that keep their connection and clients that do not, at the gateway itself and through it."""
    address = urlsplit(platform.url)
    asked = [get("/v1/models", platform.key), get("/livez"), get("/api/conversations", platform.key)]
    asking = Steady(address.hostname or "", address.port or 0, asked, kept=8, fresh=4, pause=0.02)
    yield asking
    await asking.stop()


async def ready(fleet: ControlFleet, service: str, label: str) -> None:
    async with asyncio.timeout(30):
        while not any(d.release == label and d.ready for d in await fleet.deployments(service)):
            await asyncio.sleep(0.02)


async def gone(fleet: ControlFleet, service: str, label: str) -> None:
    async with asyncio.timeout(40):
        while any(d.release == label for d in await fleet.deployments(service)):
            await asyncio.sleep(0.02)


async def replace(fleet: ControlFleet, load: Steady, service: str, old: str, new: str) -> None:
    await load.more(50)
    await fleet.ensure(service, new, 1)
    await ready(fleet, service, new)
    await load.more(50)
    await fleet.remove(service, old)
    await gone(fleet, service, old)
    await load.more(50)


@pytest.mark.parametrize("service", ["gateway", "chat", "auth"])
async def test_a_module_is_replaced_under_load_and_back(
    platform: Platform, fleet: ControlFleet, load: Steady, service: str
) -> None:
    await add(platform, Release(service=service, label="v2", note="the same again"))
    await replace(fleet, load, service, "v1", "v2")
    await replace(fleet, load, service, "v2", "v1")
    assert load.faults == {}, load.first


async def test_a_stream_outlasts_its_gateway(platform: Platform, fleet: ControlFleet, load: Steady) -> None:
    await add(platform, Release(service="gateway", label="v3"))
    streaming = asyncio.create_task(asyncio.to_thread(platform.chat, "Hi", model="far", stream=True))
    await asyncio.sleep(5 * PACE)
    await fleet.ensure("gateway", "v3", 1)
    await ready(fleet, "gateway", "v3")
    await fleet.remove("gateway", "v1")
    assert EVENTS * PACE > 2 * DRAIN
    answer = await streaming
    assert answer.status == 200
    text = answer.body.decode()
    assert text.endswith("data: [DONE]\n\n")
    assert [f'"{number} "' in text for number in range(EVENTS)] == [True] * EVENTS
    await gone(fleet, "gateway", "v1")
    await replace(fleet, load, "gateway", "v3", "v1")
    assert load.faults == {}, load.first


@pytest.mark.parametrize(
    "argv",
    [("/nowhere/program",), ("sh", "-c", "exit 3"), ("sleep", "600")],
    ids=["missing", "falls", "mute"],
)
async def test_a_release_that_is_never_ready_troubles_nobody(
    platform: Platform, fleet: ControlFleet, load: Steady, argv: tuple[str, ...]
) -> None:
    label = f"bad-{len(argv)}-{argv[0].strip('/').split('/')[0]}"
    await add(platform, Release(service="chat", label=label, source=CommandSource(argv=argv)))
    before = await fleet.instances("chat")
    await fleet.ensure("chat", label, 1)
    await load.more(200)
    (bad,) = [d for d in await fleet.deployments("chat") if d.release == label]
    assert bad.ready == 0
    assert [one for one in await fleet.instances("chat") if one.release == "v1"] == list(before)
    await fleet.remove("chat", label)
    await gone(fleet, "chat", label)
    assert load.faults == {}, load.first


async def test_an_endpoint_beside_the_local_engine(
    platform: Platform, fleet: ControlFleet, load: Steady, endpoint: str
) -> None:
    source = EndpointSource(url=endpoint, model="m")
    await add(platform, Release(service="inference", label="far", source=source))
    await fleet.ensure("inference", "far", 1)
    await ready(fleet, "inference", "far")
    await load.more(50)
    await fleet.remove("inference", "far")
    await gone(fleet, "inference", "far")
    assert load.faults == {}, load.first


def listed(platform: Platform, service: str) -> list[dict[str, Any]]:
    found = json.loads(platform.command("release", "list", service, "--json").stdout)
    return list(found["data"])


async def test_a_killed_supervisor_comes_back_with_both_releases(
    platform: Platform,
    fleet: ControlFleet,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await add(platform, Release(service="chat", label="v4", overrides=Overrides(environment={"A": "b"})))
    await fleet.ensure("chat", "v4", 2)
    await ready(fleet, "chat", "v4")
    pid = int((platform.data / "moonpool.lock").read_text())
    os.kill(pid, signal.SIGSTOP)
    # It hears of this one no more: it is in the document, and not on its shelf.
    monkeypatch.setattr(release_documents, "PATIENCE", 0.3)
    await add(platform, Release(service="chat", label="v5"))
    assert "has not heard of it yet" in capsys.readouterr().err
    assert "v5" not in {each["label"] for each in listed(platform, "chat")}
    os.kill(pid, signal.SIGKILL)
    config = platform.data.with_suffix(".yaml")
    command = [PROGRAM, "up", "--detach", "--wait", "--port", str(urlsplit(platform.url).port), "--json"]
    up = await asyncio.to_thread(
        subprocess.run,
        [*command, "--data", str(platform.data), "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert up.returncode == 0, up.stderr
    deployed = {d.release: (d.replicas, d.ready) for d in await fleet.deployments("chat")}
    assert deployed == {"v1": (1, 1), "v4": (2, 2)}
    assert {one["label"]: one["replicas"] for one in listed(platform, "chat")}["v4"] == 2
    wait_until(lambda: "v5" in {one["label"] for one in listed(platform, "chat")}, "the document is followed")
    refused = platform.command("release", "remove", "chat", "v4")
    assert (refused.returncode, "chat@v4" in refused.stderr) == (1, True)
    await fleet.remove("chat", "v4")
    await gone(fleet, "chat", "v4")
    wait_until(lambda: platform.command("release", "remove", "chat", "v4").returncode == 0, "it is removed")


async def test_the_end_of_the_platform_cuts_what_drains_short(
    platform: Platform, fleet: ControlFleet
) -> None:
    """The last one here: nothing runs afterwards."""
    minute = round(60 / PACE)
    streaming = asyncio.create_task(
        asyncio.to_thread(platform.chat, "Hi", model="far", stream=True, max_tokens=minute)
    )
    await asyncio.sleep(5 * PACE)
    await fleet.ensure("gateway", "v3", 1)
    await ready(fleet, "gateway", "v3")
    await fleet.remove("gateway", "v1")

    def told() -> bool:
        old = next(one for one in platform.instances() if (one["name"], one["release"]) == ("gateway", "v1"))
        return (old["state"], old["reason"]) == ("draining", "1 request to end")

    await asyncio.to_thread(wait_until, told, "status tells of the stream")
    assert platform.command("status").returncode == 0
    began = time.monotonic()
    down = await asyncio.to_thread(platform.command, "down", timeout=30)
    assert down.returncode == 0, down.stderr
    assert time.monotonic() - began < 20
    with contextlib.suppress(http.client.IncompleteRead):
        assert "[DONE]" not in (await streaming).body.decode()
