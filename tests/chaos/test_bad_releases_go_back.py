"""Bad releases of each kind, on a real platform under an open loop of requests: each goes back by itself, and
what failover can cover no client has seen. What is printed is the time to the rollback."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chaos.faulty_answers import text_of
from harness import faulty_release
from harness.exchanges import Ending, Seen, chatting, offer
from harness.injector import Injector, injecting
from harness.platform import UNCACHED, Platform, running
from harness.upgrading import LIMITS, history, releases, told, upgrade, view
from moonpool.contracts.upgrades import Phase
from moonpool.upgrade.store import MANAGER

pytestmark = pytest.mark.real_model

MODEL = "smollm2"
RATE = 20.0
FIRST_TOKEN = 0.1
"""Seconds the good endpoint takes to its first token."""
NEVER = 60.0
"""Seconds that a step lasts when nothing speaks against it: only a rollback is quicker."""


@pytest.fixture(scope="module")
def injector() -> Iterator[Injector]:
    with injecting() as started:
        yield started


@pytest.fixture(scope="module")
def other() -> Iterator[Injector]:
    """Another endpoint, with the same model as the good one: bad releases are there."""
    with injecting() as started:
        yield started


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, injector: Injector) -> Iterator[Platform]:
    """A platform whose model is served by a good endpoint."""
    config = {"limits": {"default": LIMITS}}
    with running(tmp_path_factory.mktemp("bad") / "data", config) as started:
        injector.fault("good", delay=FIRST_TOKEN)
        told(started, "release", "add", "inference", "good", "--url", injector.url, "--model", "good")
        upgrade(started, "inference", "good", "blue-green", keep_old_seconds=0, observe_seconds=0)
        yield started


class Users:
    """Asks for the caller, open-loop: `bad` is whatever is not a good answer."""

    def __init__(self, platform: Platform) -> None:
        self._client = httpx.AsyncClient(
            base_url=platform.url, headers={"authorization": f"Bearer {platform.key}"}, trust_env=False
        )
        self._over = asyncio.Event()
        self.by: Counter[str] = Counter()
        self.bad: list[str] = []
        self._task = asyncio.create_task(self._offer())

    async def _offer(self) -> None:
        async with self._client, asyncio.TaskGroup() as group:
            while not self._over.is_set():
                group.create_task(self._ask())
                await asyncio.sleep(1 / RATE)

    async def _ask(self) -> None:
        try:
            answer = await self._client.get("/api/users/me", timeout=20)
        except httpx.HTTPError as error:
            self.bad.append(repr(error))
            return
        self.by[answer.headers.get("x-moonpool-release", "")] += 1
        if answer.status_code != 200:
            self.bad.append(f"{answer.status_code} {answer.text[:300]}")

    async def stop(self) -> None:
        self._over.set()
        await self._task


@pytest.fixture
async def users(platform: Platform) -> AsyncIterator[Users]:
    asking = Users(platform)
    yield asking
    await asking.stop()


async def rolled_back(platform: Platform, service: str, label: str, **plan: Any) -> dict[str, Any]:
    """The upgrade's end. `seconds` is from when the release was started, or first sent anything, to there."""
    plan = {"steps": [50], "soak_seconds": NEVER, "minimum_sample": 50, **plan}
    found = await asyncio.to_thread(upgrade, platform, service, label, "canary", code=6, **plan)
    assert found["phase"] == Phase.ROLLED_BACK
    assert label not in await asyncio.to_thread(releases, platform, service)
    happened = await asyncio.to_thread(history, platform, found["id"])
    at = {one["what"].partition(": ")[0]: one["at"] for one in reversed(happened) if one["who"] == MANAGER}
    since = at.get("canary", at["stage"])
    found["seconds"] = found["ended_at"] - since
    told_after = at["rolling back"] - since
    print(f"{label}: back after {told_after:.1f} s, gone after {found['seconds']:.1f} s: {found['reason']}")
    return found


@pytest.mark.parametrize(
    ("label", "command", "limits", "why"),
    [
        ("falls", "sh -c 'exit 3'", {}, "crash loop"),
        ("mute", "sleep 600", {"ready_seconds": 3}, "not ready"),
    ],
)
async def test_what_never_serves_is_never_asked(
    platform: Platform, users: Users, label: str, command: str, limits: dict[str, Any], why: str
) -> None:
    await asyncio.to_thread(told, platform, "release", "add", "user", label, "--command", command)

    found = await rolled_back(platform, "user", label, limits=limits)

    await users.stop()
    assert why in found["reason"]
    assert found["seconds"] < 15
    assert set(users.by) == {"user@v1"}
    assert users.bad == []


@pytest.mark.slow
async def test_five_percent_of_errors(platform: Platform, users: Users) -> None:
    program = f"{sys.executable} {Path(faulty_release.__file__)} 0.05"
    await asyncio.to_thread(told, platform, "release", "add", "user", "errs", "--command", program)

    found = await rolled_back(platform, "user", "errs")

    await users.stop()
    assert "errors" in found["reason"]
    assert users.by["user@errs"] > 0
    assert users.bad == []


@pytest.fixture
async def client(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    async with chatting(platform.url, platform.key) as made:
        made.headers.update(UNCACHED)
        yield made


async def streamed(
    platform: Platform, client: httpx.AsyncClient, label: str
) -> tuple[dict[str, Any], list[Seen]]:
    """What became of the release, and of the streams offered meanwhile."""
    over = asyncio.Event()
    offering = asyncio.create_task(offer(client, MODEL, RATE, over, stream=True))
    try:
        found = await rolled_back(platform, "inference", label)
    finally:
        over.set()
        seen = await offering
    return found, seen


async def test_a_first_token_that_takes_three_times_as_long(
    platform: Platform, other: Injector, client: httpx.AsyncClient
) -> None:
    other.fault("good", delay=3 * FIRST_TOKEN)
    options = ("--url", other.url, "--model", "good", "--note", "slow")
    await asyncio.to_thread(told, platform, "release", "add", "inference", "slow", *options)

    found, seen = await streamed(platform, client, "slow")

    assert "first token" in found["reason"]
    assert [one for one in seen if one.ending is not Ending.ANSWERED] == []
    assert other.count("good") > 0


async def test_streams_that_break(platform: Platform, other: Injector, client: httpx.AsyncClient) -> None:
    other.fault("good", kind="truncate", after=5, how="length", share=0.3, seed=7)
    options = ("--url", other.url, "--model", "good", "--note", "cuts")
    await asyncio.to_thread(told, platform, "release", "add", "inference", "cut", *options)

    found, seen = await streamed(platform, client, "cut")

    assert "errors" in found["reason"]
    assert other.count("good", "faulted") > 0
    assert [one for one in seen if one.ending is not Ending.ANSWERED] == []
    assert [one.text for one in seen] == [text_of(str(number)) for number in range(len(seen))]


async def test_after_all_that_the_old_releases_serve(platform: Platform) -> None:
    began_at = time.monotonic()
    assert await asyncio.to_thread(releases, platform, "inference") == ["good"]
    assert await asyncio.to_thread(releases, platform, "user") == ["v1"]
    assert (await asyncio.to_thread(view, platform, "user"))["outcome"] == "rolled_back"
    assert time.monotonic() - began_at < 30
