"""A thousand clients on one key: never more pass than the limit and its burst, and not fewer either."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from harness.books import held
from harness.injector import Injector, injecting
from harness.platform import Platform, running, wait_until

CLIENTS = 1000
PER_MINUTE, BURST = 1200, 100
PLACES = 50
SECONDS = 3.0
PAUSE = 0.5
"""Seconds that each client rests after an answer: two thousand requests a second are offered, a hundred times
the limit."""
FASTEST = 1.25
"""Arrivals may come closer to each other than they were let through: a second is lost on a busy machine."""
RATE, PLACED = "rate", "places"
PLENTY = 1_000_000


@dataclass
class Crowd:
    """What its clients were answered between the first request and the last answer."""

    statuses: Counter[int] = field(default_factory=Counter)
    fields: set[str] = field(default_factory=set)
    seconds: float = 0.0


@dataclass(frozen=True)
class Stage:
    platform: Platform
    injector: Injector

    def key(self, **limits: int) -> str:
        made = self.platform.request("POST", "/api/auth/keys", {"name": "crowd", "limits": limits})
        assert made.status in (200, 201), made.body
        secret: str = made.json()["key"]
        return secret


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    default = {
        "requests_per_minute": PER_MINUTE,
        "burst": BURST,
        "tokens_per_minute": 1000 * PLENTY,
        "concurrent": 2 * CLIENTS,
    }
    with injecting() as injector:
        models = {name: {"targets": [{"url": injector.url}]} for name in (RATE, PLACED)}
        config = {"models": models, "limits": {"default": default}}
        with running(tmp_path_factory.mktemp("limits") / "data", config) as platform:
            yield Stage(platform, injector)


async def crowd(stage: Stage, key: str, model: str) -> Crowd:
    """A thousand connections are open before the first request is sent."""
    address, seen = urlsplit(stage.platform.url), Crowd()
    body = b'{"model":"%b","messages":[{"role":"user","content":"Hi"}]}' % model.encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b" % (key.encode(), len(body), body)
    )
    ready, go = asyncio.Semaphore(0), asyncio.Event()
    until = 0.0

    async def client() -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        ready.release()
        await go.wait()
        while time.monotonic() < until:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length:")[1].split("\r\n")[0])
            await reader.readexactly(length)
            status = int(head[9:12])
            seen.statuses[status] += 1
            if status == 429:
                seen.fields |= {line.partition(":")[0] for line in head.splitlines()[1:]}
            await asyncio.sleep(PAUSE)
        writer.close()

    clients = [asyncio.create_task(client()) for _ in range(CLIENTS)]
    for _ in clients:
        await ready.acquire()
    began = time.monotonic()
    until = began + SECONDS
    go.set()
    await asyncio.gather(*clients)
    seen.seconds = time.monotonic() - began
    return seen


def test_a_rate_and_its_burst(stage: Stage) -> None:
    seen = asyncio.run(crowd(stage, stage.key(), RATE))
    allowed = BURST + PER_MINUTE / 60 * seen.seconds
    passed, asked = seen.statuses[200], seen.statuses.total()
    print(f"\n{asked} asked, {passed} passed in {seen.seconds:.2f} s, {allowed:.0f} allowed")

    assert set(seen.statuses) == {200, 429}
    assert asked > 4 * allowed, "too few came for this test to mean anything"
    assert passed <= allowed
    assert passed >= 0.9 * (BURST + PER_MINUTE / 60 * SECONDS)
    assert {"retry-after", "retry-after-ms", "ratelimit", "ratelimit-policy"} <= seen.fields


def test_what_arrives_at_the_endpoint(stage: Stage) -> None:
    """Over any stretch of time, not only over the whole."""
    arrivals = [each["at"] for each in stage.injector.log(RATE)]
    assert len(arrivals) >= BURST
    for first, begin in enumerate(arrivals):
        for last in range(first + BURST, len(arrivals)):
            allowed = BURST + PER_MINUTE / 60 * (arrivals[last] - begin)
            assert last - first + 1 <= FASTEST * allowed + 1, f"from {first} to {last}"


def test_places(stage: Stage) -> None:
    stage.injector.fault(PLACED, delay=0.2)
    seen = asyncio.run(crowd(stage, stage.key(requests_per_minute=PLENTY, concurrent=PLACES), PLACED))
    print(f"\n{seen.statuses} in {seen.seconds:.2f} s")

    assert set(seen.statuses) == {200, 429}
    assert stage.injector.count(PLACED, "peak") == PLACES
    assert stage.injector.count(PLACED) == seen.statuses[200] >= 3 * PLACES


def test_nothing_is_held_afterwards(stage: Stage) -> None:
    wait_until(lambda: not held(stage.platform), f"nothing is held, but {held(stage.platform)}", seconds=10)
