"""Every strategy, and kills in every state, for as long as it takes an open loop to ask `REQUESTS` times: the
first round with one gateway process, all others with two."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from harness.books import billed, held
from harness.changes import GAP, MODEL, Course, load
from harness.injector import Injector, injecting
from harness.open_loop import OpenLoop
from harness.platform import Platform, packaged_weights, running, wait_until
from harness.upgrading import LIMITS, modules, told, upgrade
from moonpool.adapters.spawner.control import ControlFleet
from moonpool.http.client import Client

pytestmark = [pytest.mark.real_model, pytest.mark.slow, pytest.mark.timeout(3600)]

REQUESTS = 100_000
SOAK = 10.0
WORDS = 400
"""Of a stream: a minute of it, longer than any phase."""
GROWTH = 32 * 1024 * 1024
"""Bytes that a process may grow in all that."""


@pytest.fixture
def injector() -> Iterator[Injector]:
    with injecting() as started:
        started.fault(MODEL, kind="trickle", gap=GAP, bytes=65536)
        yield started


@pytest.fixture
def platform(tmp_path_factory: pytest.TempPathFactory, injector: Injector) -> Iterator[Platform]:
    models = {MODEL: {"targets": [{"local": packaged_weights()}]}}
    config = {"models": models, "limits": {"default": LIMITS}}
    with running(tmp_path_factory.mktemp("length") / "data", config) as started:
        told(started, "release", "add", "inference", "a", "--url", injector.url, "--model", MODEL)
        upgrade(started, "inference", "a", "blue-green", keep_old_seconds=0, observe_seconds=0)
        yield started


def memory(platform: Platform) -> dict[str, int]:
    """Resident bytes of every process that is never replaced here, by its module."""
    moved = ("user", "gateway", "upgrade")
    found = [one for one in modules(platform) if one["pid"] and one["name"] not in moved]
    return {one["name"]: psutil.Process(one["pid"]).memory_info().rss for one in found}


async def a_round(course: Course, injector: Injector, user: str, *, gateways: bool) -> str:
    """The label of the user service's release at its end."""
    parts = [course.users(), course.models(injector)]
    await course.together(*parts, *([course.gateways()] if gateways else []))
    await course.faulty()
    await course.kills_in_a_canary(old=course.label("c4"))
    await course.kills_in_a_switch(old=course.label("k6"))
    return course.label("k7")


async def rounds(course: Course, injector: Injector) -> tuple[str, dict[str, int]]:
    """Until enough was asked: the label of the user service's release, and the memory that the first took."""
    began, label, before = time.monotonic(), "v1", dict[str, int]()
    for number in range(1, 100):
        course.suffix = f"-{number}"
        if number == 2:
            await course.second_gateway("second")
            before = await asyncio.to_thread(memory, course.platform)
        label = await a_round(course, injector, label, gateways=number == 1)
        asked = len(course.loop.tally.done)
        print(f"round {number}: {asked} requests in {time.monotonic() - began:.0f} s", flush=True)
        if asked >= REQUESTS and number > 1:
            break
    await course.fleet.remove("gateway", "g3-1")
    return label, before


async def test_upgrades_at_length(platform: Platform, injector: Injector) -> None:
    client = Client()
    fleet = ControlFleet(platform.data / "run" / "control.json", client)
    loop = OpenLoop(platform, load(platform, fresh=100, kept=190, streams=1, words=WORDS))
    course = Course(platform, fleet, loop, SOAK)
    try:
        label, before = await rounds(course, injector)
    finally:
        tally = await loop.stop()
        shares = course.count()
        print(*course.told, *shares, sep="\n")
        print(f"{tally.counts()}, {len(tally.faults)} faults, at most {loop.most} at a time")
        print(Counter(f"{one.kind}: {one.fault.partition(' ')[2][:100]}" for one in tally.faults))
        await client.aclose()

    assert [one.fault for one in tally.faults] == []
    # Each is within 3 sigma with 99.7 %: of so many one may be outside, none far.
    assert sum(abs(share.sigmas) > 3 for share in shares) <= 1
    assert max(abs(share.sigmas) for share in shares) < 4.5
    streams = sum(tally.counts()[kind] for kind in ("streams", "slow"))
    await asyncio.to_thread(wait_until, lambda: len(billed(platform)) >= streams, "all is billed")
    assert len(billed(platform)) == streams
    await asyncio.to_thread(wait_until, lambda: not held(platform), "nothing is held")
    await asyncio.to_thread(wait_until, lambda: injector.stats()["active"] == 0, "no stream is under way")
    assert {one["release"] for one in modules(platform, "user")} == {label}
    grown = {name: now - before[name] for name, now in memory(platform).items() if name in before}
    print({name: f"{bytes / 2**20:+.1f} MB" for name, bytes in grown.items()})
    assert {name: more for name, more in grown.items() if more > GROWTH} == {}
