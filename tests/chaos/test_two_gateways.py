"""Two gateways on the same sockets, one Redis: what they count and keep is the same, whatever is killed."""

import asyncio
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from harness.platform import Platform, running, wait_until
from harness.redis_server import RedisServer, redis_server

BURST = 40
PLACES = 2
LEASE = 15.0
"""Seconds after which what a killed gateway held is free again."""


class Model(BaseHTTPRequestHandler):
    """Answers at once; streams stay open until `go`."""

    protocol_version = "HTTP/1.1"
    go: threading.Event
    asked: list[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body["messages"][0]["content"])
        whole = {"id": "c", "created": 1, "model": body["model"]}
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            told = {**whole, "object": "chat.completion", "choices": [choice], "usage": usage}
            return self._send("application/json", json.dumps(told).encode())
        choice = {"index": 0, "delta": {"role": "assistant", "content": "well"}, "finish_reason": None}
        event = {**whole, "object": "chat.completion.chunk", "choices": [choice]}
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.flush()
        self.go.wait(60)
        self.close_connection = True

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class House:
    platform: Platform
    redis: RedisServer

    def gateways(self) -> list[dict[str, Any]]:
        """Those that serve, in the order of their places."""
        found = [one for one in self.platform.instances() if one["name"] == "gateway"]
        return sorted((one for one in found if one["state"] == "ready"), key=lambda one: one["instance"])

    def head(self, method: str, path: str, **headers: str) -> bytes:
        fields = {"Host": "localhost", "Authorization": f"Bearer {self.platform.key}", **headers}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        return f"{method} {path} HTTP/1.1\r\n{lines}".encode()

    async def open(self, own: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To that gateway's own socket, or to whichever takes it."""
        if own:
            return await asyncio.open_unix_connection(own.removeprefix("unix:"))
        address = urlsplit(self.platform.url)
        return await asyncio.open_connection(address.hostname, address.port)

    async def get(self, path: str, own: str = "") -> tuple[int, bytes]:
        reader, writer = await self.open(own)
        writer.write(self.head("GET", path, Connection="close") + b"\r\n")
        try:
            answer = await reader.read()
        finally:
            writer.close()
        return int(answer.split(b" ", 2)[1]), answer

    async def chat(self, own: str, text: str, headers: dict[str, str] | None = None, **options: Any) -> bytes:
        """The whole answer; of a stream its first part, while it goes on."""
        reader, writer = await self.open(own)
        body = {"model": "far", "messages": [{"role": "user", "content": text}], **options}
        content = json.dumps(body).encode()
        sent = {"Content_Type": "application/json", "Content_Length": str(len(content)), **(headers or {})}
        if not options.get("stream"):
            sent["Connection"] = "close"
        writer.write(self.head("POST", "/v1/chat/completions", **sent) + b"\r\n" + content)
        if not options.get("stream"):
            answer = await reader.read()
            writer.close()
            return answer
        answer = await reader.readuntil(b"\r\n\r\n")
        self.open_streams.append((reader, writer))
        return answer

    def __post_init__(self) -> None:
        self.open_streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    Model.go, Model.asked = threading.Event(), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = tmp_path_factory.mktemp("two")
    with redis_server(folder) as redis:
        config = {
            "gateway": {"workers": 2},
            "infrastructure": {"cache": f"{redis.url}?timeout=2"},
            "models": {"far": {"targets": [{"url": f"http://127.0.0.1:{server.server_address[1]}/v1"}]}},
            "limits": {
                "default": {"requests_per_minute": 6000, "concurrent": 2000},
                "route:/v1/models": {"requests_per_minute": 60, "burst": BURST},
                "model:far": {"concurrent": PLACES},
            },
        }
        with running(folder / "data", config) as platform:
            yield House(platform, redis)
    Model.go.set()
    server.shutdown()
    server.server_close()


async def many(house: House, number: int) -> tuple[int, float]:
    """How many of so many at once are let through, and how long they took."""
    began = time.monotonic()
    answers = await asyncio.gather(*(house.get("/v1/models") for _ in range(number)))
    assert {status for status, _ in answers} <= {200, 429}
    return sum(status == 200 for status, _ in answers), time.monotonic() - began


async def test_a_thousand_at_once_never_pass_the_limit_in_sum(house: House) -> None:
    granted, seconds = await many(house, 1000)
    assert BURST <= granted <= BURST + seconds + 1
    for gateway in house.gateways():
        _, metrics = await house.get("/internal/metrics", gateway["own"])
        counted = re.findall(rb'request_seconds_count{.*route="/v1/models".*} (\S+)', metrics)
        assert 0 < sum(map(float, counted)) < 1000  # both took part


async def test_an_answer_is_kept_for_both(house: House) -> None:
    one, other = (gateway["own"] for gateway in house.gateways())
    assert b"x-moonpool-cache: miss" in await house.chat(one, "known?", temperature=0)
    wait_until(lambda: house.redis.ask("KEYS", "mp:cache:*"), "the answer is kept")
    assert b"x-moonpool-cache: hit" in await house.chat(other, "known?", temperature=0)
    assert Model.asked.count("known?") == 1


async def test_what_one_has_done_the_other_does_not_do_again(house: House) -> None:
    one, other = (gateway["own"] for gateway in house.gateways())
    key = {"Idempotency_Key": "order-7"}
    answers = await asyncio.gather(*(house.chat(own, "once?", key, temperature=1) for own in (one, other)))
    statuses = sorted(answer.split(b" ", 2)[1] for answer in answers)
    assert statuses in ([b"200", b"409"], [b"200", b"200"])
    again = await house.chat(other, "once?", key, temperature=1)
    assert b"idempotent-replayed: true" in again
    assert Model.asked.count("once?") == 1


async def test_without_redis_each_gives_out_its_share(house: House) -> None:
    house.redis.kill()
    granted, seconds = await many(house, 300)
    share = BURST // 2
    assert share <= granted <= 2 * share + seconds + 3
    assert b" 200 " in (await house.chat("", "and now?", temperature=1)).split(b"\r\n")[0]
    log = house.platform.data / "logs" / "gateway.log"
    wait_until(
        lambda: log.read_text().count('"use":"limits"') or '"redis is away"' in log.read_text(), "told"
    )
    house.redis.start()
    wait_until(lambda: house.redis.ask("ZCARD", "mp:limits:gateways") == "2", "both are back")
    granted, seconds = await many(house, 300)
    assert BURST <= granted <= BURST + seconds + 1


@pytest.mark.slow
async def test_what_a_killed_gateway_held_comes_back(house: House) -> None:
    first, second = house.gateways()
    for number in range(PLACES):
        answer = await house.chat(first["own"], f"slow {number}", stream=True, temperature=1)
        assert answer.startswith(b"HTTP/1.1 200")
    assert (await house.chat(second["own"], "no place", temperature=1)).startswith(b"HTTP/1.1 429")
    os.kill(first["pid"], signal.SIGKILL)
    killed = time.monotonic()
    while (await house.chat(second["own"], "a place?", temperature=1)).startswith(b"HTTP/1.1 429"):
        assert time.monotonic() - killed < LEASE + 5
        await asyncio.sleep(0.25)
    assert time.monotonic() - killed > 1  # they were leases, not forgotten
    wait_until(lambda: len(house.gateways()) == 2, "there are two again")


def test_two_gateways_that_share_nothing_do_not_start(tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as refused, running(tmp_path / "d", {"gateway": {"workers": 2}}):
        pass
    assert "needs a shared cache" in str(refused.value)
    assert "Set infrastructure.cache to a redis:// URL, or workers to 1." in str(refused.value)
