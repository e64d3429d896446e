"""Limits, targets, policies of routes and resilience are changed under an open loop of strict clients, before
two gateways: every process follows within a second, nobody notices, and what cannot be changes nothing."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from harness.changes import GAP, MODEL, Course, load
from harness.injector import Injector, injecting
from harness.open_loop import OpenLoop
from harness.platform import Platform, running, wait_until
from harness.upgrading import LIMITS, modules, told
from moonpool.adapters.spawner.control import ControlFleet
from moonpool.http.client import Client

pytestmark = pytest.mark.slow

WORDS = 60
"""Of a stream: it outlives several changes."""
PROBED = "GET /v1/files"
"""A route that the load does not use."""
REFUSED = [
    ("models.smollm2.targets", "[{}]", "models.smollm2.targets[0]: the target has neither url nor local"),
    ('routes."GET /api/users/you".enabled', "false", "no service has the route GET /api/users/you"),
    ('routes."GET /".scope', "files", 'routes."GET /".scope: nobody is asked for a key here'),
    ("resilience.retry.attempts", "0", "resilience.retry.attempts: expected int >= 1"),
]


@pytest.fixture(scope="module")
def injector() -> Iterator[Injector]:
    with injecting() as started:
        for model in ("before", "after"):
            started.fault(model, kind="trickle", gap=GAP, bytes=65536)
        yield started


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, injector: Injector) -> Iterator[Platform]:
    models = {MODEL: {"targets": [{"url": injector.url, "model": "before"}]}}
    config = {"models": models, "limits": {"default": LIMITS}}
    with running(tmp_path_factory.mktemp("changes") / "data", config) as started:
        yield started


@pytest.fixture
async def course(platform: Platform) -> AsyncIterator[Course]:
    client = Client()
    fleet = ControlFleet(platform.data / "run" / "control.json", client)
    loop = OpenLoop(platform, load(platform, fresh=25, kept=40, streams=4, words=WORDS))
    made = Course(platform, fleet, loop, 0.0)
    await made.second_gateway("g2")
    yield made
    await loop.stop()
    await client.aclose()


async def test_the_configuration_changes_under_load(
    platform: Platform, injector: Injector, course: Course
) -> None:
    target = json.dumps([{"url": injector.url, "model": "after"}])
    changes = {
        "a limit": ("limits.default.requests_per_minute", str(LIMITS["requests_per_minute"] + 1)),
        "a target": (f"models.{MODEL}.targets", target),
        "a route's time": ('routes."GET /api/users/me".timeouts.total', "9"),
        "a route's priority": ('routes."POST /v1/chat/completions".priority', "0"),
        "retries": ("resilience.retry.attempts", "4"),
        "breakers": ("resilience.breaker.consecutive_failures", "9"),
        "time-outs of models": ("resilience.timeouts.between_tokens", "50"),
        "hedging": ("resilience.hedge.enabled", "true"),
    }
    seconds = {}
    for name, (place, value) in changes.items():
        seconds[name] = await asyncio.to_thread(changed, platform, place, value)
    seconds["in force in both gateways"] = await in_force(platform)
    await asyncio.to_thread(nothing_else_is_taken, platform)
    asked = injector.count("before")
    await asyncio.sleep(1.0)
    tally = await course.loop.stop()

    print("seconds from its version to the last process:")
    print(*(f"  {name:<28}{took:.3f}" for name, took in seconds.items()), sep="\n")
    print(f"{tally.counts()}, {len(tally.faults)} faults, at most {course.loop.most} at a time")
    assert max(seconds.values()) < 1.0
    assert [one.fault for one in tally.faults] == []
    assert injector.count("after") > 0
    assert injector.count("before") == asked
    processes = [one for one in modules(platform) if one["pid"] and one["name"] != "config"]
    said = [line for line in platform.logs(10_000).splitlines() if "resilience changed" in line]
    assert {one["instance"] for one in processes} == {json.loads(line)["instance"] for line in said}


def changed(platform: Platform, place: str, value: str) -> float:
    """Seconds until every process, those of both gateways too, has the change."""
    done = told(platform, "config", "set", place, value)
    assert done["restart"] == []
    at = told(platform, "config", "show")["at"]
    running = {one["instance"] for one in modules(platform) if one["pid"]}
    assert len(running) == 13

    def there() -> list[float]:
        files = (platform.data / "run").glob("documents-*.json")
        found = [(json.loads(file.read_text()), file.stat().st_mtime) for file in files]
        has = {said["instance"]: when for said, when in found if said["version"] == done["version"]}
        return [has[name] for name in running] if running <= has.keys() else []

    return max(wait_until(there, f"every process has version {done['version']}", 10)) - at


async def in_force(platform: Platform) -> float:
    """Seconds until each gateway refuses what is switched off."""
    gateways = [one["own"].removeprefix("unix:") for one in modules(platform, "gateway")]
    assert len(gateways) == 2
    refused = [asyncio.create_task(until_refused(platform, own)) for own in gateways]
    await asyncio.to_thread(told, platform, "config", "set", f'routes."{PROBED}".enabled', "false")
    at = (await asyncio.to_thread(told, platform, "config", "show"))["at"]
    return max(await asyncio.gather(*refused)) - float(at)


async def until_refused(platform: Platform, own: str) -> float:
    """When it first was (Unix seconds)."""
    fields = f"host: localhost\r\nauthorization: Bearer {platform.key}\r\nconnection: close\r\n\r\n"
    async with asyncio.timeout(30):
        while True:
            reader, writer = await asyncio.open_unix_connection(own)
            writer.write(f"{PROBED} HTTP/1.1\r\n{fields}".encode())
            answer = await reader.read()
            writer.close()
            if b'"route_disabled"' in answer:
                return time.time()
            assert answer.startswith(b"HTTP/1.1 200"), answer
            await asyncio.sleep(0.01)


def nothing_else_is_taken(platform: Platform) -> None:
    before = told(platform, "config", "show")
    for place, value, said in REFUSED:
        refused = platform.command("config", "set", place, value)
        assert refused.returncode == 1
        assert said in refused.stderr
    assert told(platform, "config", "show") == before
