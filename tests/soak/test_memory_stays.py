"""A million requests and ten thousand streams later the gateway is as large as it was, and holds nothing.

    make soak                            minutes, on a quiet machine; needs wrk
    SOAK_REQUESTS=200000 make soak       a fifth of it

Every prompt is another one, and a tenth of the streams are left by their clients. Memory is the
proportional set size; it is read at ten points, so that a leak shows as a slope and not as a guess.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from bench.machine import free_port, wait_for_port

from harness.books import held
from harness.injector import Injector, injecting
from harness.platform import Platform, running, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("wrk") is None, reason="nothing here is fast enough but wrk"),
]

ROOT = Path(__file__).parents[2]
REQUESTS = int(os.environ.get("SOAK_REQUESTS", "1000000"))
WARM = REQUESTS // 10
"""Requests until all that is bounded is full: rings, indices, pools, the allocator's arenas."""
POINTS = 10
STREAMS, AT_ONCE, LEFT = 10_000, 100, 10
"""How many, how many at a time, and one in how many is left in the middle."""
ROOM = 0.05
"""Share by which the gateway may be larger at the end: what the allocator does by itself."""
SPELL = 5.0
"""Seconds of load between two looks at how many requests were answered."""
UNLIMITED = 1_000_000_000
SCRIPT = """
local count = {begin}
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
function request()
  count = count + 1
  return wrk.format(nil, nil, nil, string.format(
    '{{"model":"plain","messages":[{{"role":"user","content":"Tell me of number %d."}}],"max_tokens":64}}',
    count))
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nRESULT {{"requests": %d, "failed": %d}}\\n', summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass
class Soak:
    """A platform under load; `requests` and `failed` are of all that was asked so far."""

    platform: Platform
    injector: Injector
    folder: Path
    requests: int = 0
    failed: int = 0

    @property
    def gateway(self) -> psutil.Process:
        return psutil.Process(self.platform.modules()["gateway"]["pid"])

    def megabytes(self) -> dict[str, float]:
        """Of every module."""
        sizes = {}
        for name, module in self.platform.modules().items():
            sizes[name] = psutil.Process(module["pid"]).memory_full_info().pss / 1e6
        return sizes

    def ask(self, count: int) -> None:
        """At least so many requests, as fast as they are answered."""
        goal = self.requests + count
        while self.requests < goal:
            script = self.folder / "soak.lua"
            script.write_text(SCRIPT.format(begin=self.requests, key=self.platform.key))
            command = ["wrk", "--threads=1", "--connections=64", f"--duration={SPELL:g}s", "--timeout=20s"]
            command += [f"--script={script}", f"{self.platform.url}/v1/chat/completions"]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            report = json.loads(run.stdout.rpartition("RESULT ")[2])
            self.requests += report["requests"]
            self.failed += report["failed"]

    def stream(self, count: int) -> Counter[str]:
        """So many streams; what became of them."""
        return asyncio.run(self._stream(count))

    def _streamed(self, number: int) -> bytes:
        body = b'{"model":"streams","stream":true,"messages":[{"role":"user","content":"%d"}]}' % number
        fields = {"host": "a", "connection": "close", "content-type": "application/json"}
        fields |= {"authorization": f"Bearer {self.platform.key}", "content-length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + body

    async def _stream(self, count: int) -> Counter[str]:
        endings: Counter[str] = Counter()
        room = asyncio.Semaphore(AT_ONCE)
        address = urlsplit(self.platform.url)

        async def one(number: int) -> None:
            async with room:
                reader, writer = await asyncio.open_connection(address.hostname, address.port)
                writer.write(self._streamed(number))
                if number % LEFT == 0:
                    await reader.readuntil(b"data: ")
                    endings["left"] += 1
                else:
                    whole = (await reader.read(-1)).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
                    endings["whole" if whole else "cut"] += 1
                writer.close()

        await asyncio.gather(*map(one, range(count)))
        return endings


@contextmanager
def stub() -> Iterator[int]:
    """The endpoint that costs next to nothing; its port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.stub", str(port)], cwd=ROOT)
    try:
        wait_for_port(port)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Soak]:
    limits = dict.fromkeys(("requests_per_minute", "tokens_per_minute", "concurrent"), UNLIMITED)
    folder = tmp_path_factory.mktemp("soak")
    with stub() as port, injecting() as injector:
        config = {
            "models": {
                "plain": {"targets": [{"url": f"http://127.0.0.1:{port}/v1"}]},
                "streams": {"targets": [{"url": injector.url}]},
            },
            "limits": {"default": limits},
        }
        with running(folder / "data", config) as platform:
            yield Soak(platform, injector, folder)


def settled(soak: Soak, descriptors: int | None = None) -> None:
    """Nothing is held any more, and the descriptors are those of the beginning."""
    wait_until(lambda: not held(soak.platform), f"nothing is held, but {held(soak.platform)}")
    if descriptors is not None:
        wait_until(
            lambda: soak.gateway.num_fds() <= descriptors,
            f"{descriptors} descriptors again, not {soak.gateway.num_fds()}",
        )


@pytest.mark.timeout(3600)
def test_requests(soak: Soak) -> None:
    soak.ask(WARM)
    settled(soak)
    before = soak.megabytes()
    sizes, threads = [before["gateway"]], soak.gateway.num_threads()
    began, first = time.monotonic(), soak.requests
    for _ in range(POINTS):
        soak.ask((REQUESTS - WARM) // POINTS)
        sizes.append(soak.megabytes()["gateway"])
    rate = (soak.requests - first) / (time.monotonic() - began)
    settled(soak)
    after = soak.megabytes()
    print(f"\n{soak.requests} requests, {rate:.0f} a second, {soak.failed} failed")
    print("gateway:", " ".join(f"{size:.1f}" for size in sizes), "MB")
    print(", ".join(f"{name} {before[name]:.1f} → {after[name]:.1f}" for name in sorted(after)), "MB")

    assert soak.failed == 0
    assert sizes[-1] <= sizes[0] * (1 + ROOM)
    assert soak.gateway.num_threads() <= threads


@pytest.mark.timeout(1200)
def test_streams(soak: Soak) -> None:
    soak.stream(STREAMS // 5)
    settled(soak)
    soak.injector.close_idle()
    before, descriptors = soak.megabytes(), soak.gateway.num_fds()
    began = time.monotonic()
    sizes, endings = [before["gateway"]], Counter[str]()
    for _ in range(POINTS):
        endings += soak.stream(STREAMS // POINTS)
        sizes.append(soak.megabytes()["gateway"])
    rate = STREAMS / (time.monotonic() - began)
    soak.injector.close_idle()
    settled(soak, descriptors + 2)
    print(f"\n{endings}, {rate:.0f} a second")
    print("gateway:", " ".join(f"{size:.1f}" for size in sizes), "MB")

    assert endings == {"whole": STREAMS - STREAMS // LEFT, "left": STREAMS // LEFT}
    assert sizes[-1] <= sizes[0] * (1 + ROOM)
    assert soak.injector.stats()["active"] == 0
