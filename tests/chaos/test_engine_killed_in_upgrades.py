"""The real engine while its service is upgraded: `kill -9` of an instance of the old release, and of one of
the new, in the middle of a canary and of a rolling upgrade. At temperature 0 every answer of all that time is
the undisturbed one, to the byte, counted and billed as that is, and the upgrades go on to their end."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from harness.books import billed, held, record
from harness.exchanges import Ending, Seen, chatting
from harness.platform import UNCACHED, Platform, packaged_weights, running, wait_until
from harness.stories import PATIENCE, SUBJECTS, counted, engines, follow, under_way
from harness.upgrading import releases, told, upgrade, view

pytestmark = [pytest.mark.real_model, pytest.mark.slow, pytest.mark.timeout(1800)]

INSTANCES = 2
TOKENS = 80
EVENTS = 8
"""Of a story that is under way, when somebody is killed."""
PRICE = {"prompt": 1.0, "completion": 4.0}
DEARER = {"prompt": 2.0, "completion": 8.0}
PLAN: dict[str, Any] = {
    "steps": [50],
    "soak_seconds": 15,
    "minimum_sample": 6,
    "observe_seconds": 2,
    # What dies here dies by our hand, which says nothing about the release it was of.
    "analysis": {"enabled": False},
    "limits": {"error_rate": None, "restarts": 20, "unready_seconds": 120, "ready_seconds": 120},
}


@pytest.fixture
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    local = {"targets": [{"local": packaged_weights()}], "price": PRICE}
    config: dict[str, Any] = {
        "models": {"local": local},
        "services": {"inference": {"instances": INSTANCES}},
        "engine": {"slots": len(SUBJECTS) // 2},
        "telemetry": {"keep_requests": 5000},
        "billing": {"enforce": False},
    }
    with running(tmp_path_factory.mktemp("engines") / "data", config) as started:
        yield started


@dataclass
class Writers:
    """One for each subject: it asks for its story again and again. `events` is how far each is."""

    platform: Platform
    events: list[int] = field(default_factory=lambda: [0] * len(SUBJECTS))
    stories: list[tuple[str, Seen]] = field(default_factory=list)
    enough: bool = False

    async def write(self, client: httpx.AsyncClient, place: int) -> None:
        def told(count: int) -> None:
            self.events[place] = count

        while True:
            self.events[place] = 0
            seen = await follow(client, SUBJECTS[place], told, tokens=TOKENS)
            self.stories.append((SUBJECTS[place], seen))
            if self.enough:
                return

    async def kill(self, release: str) -> str:
        """The instance of `release` with most streams under way dies in the middle of them. Its name."""
        async with asyncio.timeout(PATIENCE):
            while True:
                pids = await asyncio.to_thread(engines, self.platform, release)
                active = await asyncio.to_thread(under_way, self.platform)
                busy = {one: active.get(one, 0.0) for one in pids if active.get(one, 0.0)}
                written = sum(EVENTS <= count < TOKENS - EVENTS for count in self.events)
                # With more in the middle than are elsewhere, one of them is its own.
                found = max(busy, key=lambda one: busy[one], default="")
                if found and written > sum(active.values()) - busy[found]:
                    os.kill(pids[found], signal.SIGKILL)
                    return found
                await asyncio.sleep(0.02)


@asynccontextmanager
async def writing(platform: Platform) -> AsyncIterator[Writers]:
    """All of them, until the block ends, and then to the end of what they have begun."""
    writers = Writers(platform)
    async with chatting(platform.url, platform.key) as client:
        client.headers.update(UNCACHED)
        tasks = [asyncio.create_task(writers.write(client, place)) for place in range(len(SUBJECTS))]
        try:
            yield writers
        finally:
            writers.enough = True
            await asyncio.gather(*tasks)


async def once(platform: Platform) -> dict[str, Seen]:
    """Each story once, all together."""
    async with writing(platform) as writers:
        writers.enough = True
    return dict(writers.stories)


async def until(platform: Platform, id: str, what: str, holds: Callable[[dict[str, Any]], bool]) -> None:
    def look() -> bool:
        seen = view(platform, id)
        assert not seen["outcome"] or holds(seen), seen["reason"]
        return holds(seen)

    await asyncio.to_thread(wait_until, look, what, 240.0)


async def killing(platform: Platform, writers: Writers, label: str, strategy: str) -> dict[str, Any]:
    """An upgrade to `label`, in whose middle one of the old and then one of the new are killed."""
    begun = await asyncio.to_thread(upgrade, platform, "inference", label, strategy, wait=False, **PLAN)
    id, old = str(begun["id"]), str(begun["old"]["release"])
    shares = "both to have a share, with a new one that is ready"
    await until(platform, id, shares, lambda seen: seen["new"]["weight"] > 0 and seen["new"]["ready"] > 0)
    killed = [await writers.kill(old)]
    killed.append(await writers.kill(label))
    phase = (await asyncio.to_thread(view, platform, id))["phase"]
    await until(platform, id, "its end", lambda seen: bool(seen["outcome"]))
    ended = await asyncio.to_thread(view, platform, id)
    took = ended["ended_at"] - ended["started_at"]
    print(f"\n{strategy}: killed {' and '.join(killed)} in {phase}; {ended['outcome']} after {took:.0f} s")
    return ended


async def test_no_stream_notices(platform: Platform) -> None:
    models = f"{{targets: [{{local: {packaged_weights()}}}], price: {DEARER}}}".replace("'", "")
    await asyncio.to_thread(
        told, platform, "release", "add", "inference", "v2", "--set", f"models.local={models}"
    )
    await asyncio.to_thread(told, platform, "release", "add", "inference", "v3", "--note", "the same again")
    undisturbed = await once(platform)
    assert {each.ending for each in undisturbed.values()} == {Ending.ANSWERED}, undisturbed

    began = time.monotonic()
    async with writing(platform) as writers:
        canary = await killing(platform, writers, "v2", "canary")
        rolling = await killing(platform, writers, "v3", "rolling")
    seconds = time.monotonic() - began

    stories = writers.stories
    assert (canary["outcome"], rolling["outcome"]) == ("promoted", "promoted")
    assert [each for _, each in stories if each.ending is not Ending.ANSWERED] == []
    assert [subject for subject, each in stories if each.text != undisturbed[subject].text] == []
    assert [s for s, each in stories if counted(each) != counted(undisturbed[s])] == []
    await asyncio.to_thread(the_books_agree, platform, [each for _, each in stories], seconds)
    prices = [side["numbers"]["cost_per_million"] for side in (canary["old"], canary["new"])]
    assert prices[1] == pytest.approx(2 * prices[0], rel=0.1), "its release said that it is twice as dear"


def the_books_agree(platform: Platform, stories: list[Seen], seconds: float) -> None:
    records = [found for each in stories if (found := record(platform, each.request_id)) is not None]
    moved = [each for each in records if "MG" in each["flags"]]
    slowest = max(each.seconds for each in stories)
    print(f"{len(stories)} streams in {seconds:.0f} s, {len(moved)} moved; the slowest took {slowest:.1f} s")
    assert len(moved) >= 4, "of each that was killed at least one"
    ids = {each.request_id for each in stories}
    events = wait_until(lambda: (found := billed(platform)).keys() >= ids and found, "all are billed")
    assert isinstance(events, dict)
    for each in stories:
        event = events[each.request_id]
        assert (event["prompt_tokens"], event["completion_tokens"]) == counted(each)
        assert (event["outcome"], event["estimated"]) == ("completed", False)
    wait_until(lambda: set(releases(platform, "inference")) == {"v3"}, "the old ones are gone", seconds=60)
    wait_until(lambda: len(engines(platform)) == INSTANCES, "as many as there were", seconds=60)
    wait_until(lambda: not held(platform), f"nothing is held, but {held(platform)}", seconds=10)
