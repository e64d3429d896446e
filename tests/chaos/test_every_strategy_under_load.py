"""Every strategy on a real platform under an open loop of strict clients: nobody is refused, reset, cut, or
told the same twice; shares are what weights say; nothing is left over. `make soak` runs it for longer."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest

from harness.books import billed, held
from harness.changes import GAP, MODEL, Course, load
from harness.injector import Injector, injecting
from harness.open_loop import OpenLoop
from harness.platform import Platform, packaged_weights, running, wait_until
from harness.upgrading import LIMITS, modules, releases, told, upgrade
from moonpool.adapters.spawner.control import ControlFleet
from moonpool.http.client import Client

pytestmark = [pytest.mark.real_model, pytest.mark.slow]

SOAK = 3.0
WORDS = 30
"""Of a stream: longer than any phase, with `GAP` seconds to each."""


@pytest.fixture(scope="module")
def injector() -> Iterator[Injector]:
    with injecting() as started:
        started.fault(MODEL, kind="trickle", gap=GAP, bytes=65536)
        yield started


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, injector: Injector) -> Iterator[Platform]:
    models = {MODEL: {"targets": [{"local": packaged_weights()}]}}
    config = {"models": models, "limits": {"default": LIMITS}}
    with running(tmp_path_factory.mktemp("strategies") / "data", config) as started:
        told(started, "release", "add", "inference", "a", "--url", injector.url, "--model", MODEL)
        upgrade(started, "inference", "a", "blue-green", keep_old_seconds=0, observe_seconds=0)
        yield started


@pytest.fixture
async def course(platform: Platform) -> AsyncIterator[Course]:
    client = Client()
    fleet = ControlFleet(platform.data / "run" / "control.json", client)
    loop = OpenLoop(platform, load(platform, fresh=25, kept=40, streams=4, words=WORDS))
    made = Course(platform, fleet, loop, SOAK)
    yield made
    tally = await loop.stop()
    await client.aclose()
    print(*made.told, *made.count(), sep="\n")
    print(f"{tally.counts()}, {len(tally.faults)} faults, at most {loop.most} at a time")


def descriptors(platform: Platform) -> dict[str, int]:
    """Of every process, by its place."""
    return {
        f"{one['name']}@{one['release']}": psutil.Process(one["pid"]).num_fds()
        for one in modules(platform)
        if one["pid"]
    }


async def test_every_strategy(platform: Platform, injector: Injector, course: Course) -> None:
    began = time.monotonic()
    await course.together(course.users(), course.models(injector), course.gateways())
    tally = await course.loop.stop()

    assert [one.fault for one in tally.faults] == []
    for share in course.count():
        assert abs(share.sigmas) < 3, share
    assert {(one["name"], one["release"]) for one in modules(platform) if one["release"] != "v1"} == {
        ("user", "c4"),
        ("inference", "c"),
        ("gateway", "g3"),
    }
    answered = sum(tally.counts()[kind] for kind in ("streams", "slow"))
    await asyncio.to_thread(wait_until, lambda: len(billed(platform)) >= answered, "all is billed")
    assert len(billed(platform)) == answered  # copies are not
    await asyncio.to_thread(wait_until, lambda: not held(platform), "nothing is held")
    await asyncio.to_thread(wait_until, lambda: injector.stats()["active"] == 0, "no stream is under way")
    print(f"{time.monotonic() - began:.1f} s")


async def test_whoever_is_killed_beside_two_gateways(platform: Platform, course: Course) -> None:
    await course.second_gateway("g4")
    before = descriptors(platform)
    (old,) = await asyncio.to_thread(releases, platform, "user")
    await course.kills_in_a_canary(old)
    tally = await course.loop.stop()

    assert [one.fault for one in tally.faults] == []
    assert [one["release"] for one in modules(platform, "user")] == ["k6"]
    assert sorted(one["release"] for one in modules(platform, "gateway")) == ["g3", "g4"]
    # To clients and upstream: no more than was under way at a time. What leaks is one a request.
    now = descriptors(platform)
    grown = {name: now[name] - had for name, had in before.items() if name in now}
    assert {name: more for name, more in grown.items() if more > 2 * course.loop.most} == {}
    assert tally.counts()["kept"] > 3 * course.loop.most
