"""One of two local instances is killed with `-9` while it writes: at temperature 0 every answer is the
undisturbed one, to the byte."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.books import billed, held, record
from harness.exchanges import Ending, Seen, chatting
from harness.platform import UNCACHED, Platform, packaged_weights, running, wait_until
from harness.stories import PATIENCE, SUBJECTS, counted, engines, follow, under_way

pytestmark = pytest.mark.real_model

STREAMS = 8
"""As many as the two instances have slots: those that must move wait until one is free."""
TOKENS = 64
BEGUN, EVENTS = 5, 10
"""How many streams have told how many events when the instance is killed: more streams than one instance has
slots, so that some are of the other."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    config: dict[str, Any] = {
        "models": {"local": {"targets": [{"local": packaged_weights()}]}},
        "services": {"inference": {"instances": 2}},
        "engine": {"slots": STREAMS // 2},
        "telemetry": {"keep_requests": 1000},
    }
    with running(tmp_path_factory.mktemp("killed") / "data", config) as started:
        yield started


def busiest(platform: Platform) -> int:
    """The pid of the instance that most requests are under way at."""
    active = under_way(platform)
    return engines(platform)[max(active, key=lambda instance: active[instance])]


async def write_all(platform: Platform, *, kill: bool = False) -> list[Seen]:
    """All stories at once; with `kill` the busier instance dies in the middle of them."""
    events = [0] * STREAMS
    async with chatting(platform.url, platform.key) as client:
        client.headers.update(UNCACHED)

        def counting(place: int) -> Callable[[int], None]:
            def told(count: int) -> None:
                events[place] = count

            return told

        asked = [
            asyncio.create_task(follow(client, subject, counting(place), tokens=TOKENS))
            for place, subject in enumerate(SUBJECTS)
        ]
        if kill:
            async with asyncio.timeout(PATIENCE):
                while sum(count >= EVENTS for count in events) < BEGUN:
                    await asyncio.sleep(0.01)
            os.kill(await asyncio.to_thread(busiest, platform), signal.SIGKILL)
            assert max(events) < TOKENS, "an answer was over too early for this test"
        return list(await asyncio.gather(*asked))


@pytest.fixture(scope="module")
def undisturbed(platform: Platform) -> list[Seen]:
    return asyncio.run(write_all(platform))


@pytest.fixture(scope="module")
def disturbed(platform: Platform, undisturbed: list[Seen]) -> list[Seen]:
    wait_until(lambda: len(engines(platform)) == 2, "two instances")
    return asyncio.run(write_all(platform, kill=True))


@pytest.mark.timeout(300)
def test_every_answer_is_the_undisturbed_one(undisturbed: list[Seen], disturbed: list[Seen]) -> None:
    assert {each.ending for each in undisturbed} == {Ending.ANSWERED}, undisturbed
    assert len({each.text for each in undisturbed}) == STREAMS
    assert {each.ending for each in disturbed} == {Ending.ANSWERED}, disturbed
    assert [each.text for each in disturbed] == [each.text for each in undisturbed]


def test_those_of_the_killed_one_were_moved(platform: Platform, disturbed: list[Seen]) -> None:
    records = [record(platform, each.request_id) for each in disturbed]
    moved = [each for each in records if each is not None and "MG" in each["flags"]]
    slowest = max(each.seconds for each in disturbed)
    print(f"\n{len(moved)} of {STREAMS} streams moved, the slowest took {slowest:.1f} s")
    assert 1 <= len(moved) < STREAMS
    assert all(len(each["attempts"]) == 2 for each in moved)


def test_usage_is_that_of_the_undisturbed_run(
    platform: Platform, undisturbed: list[Seen], disturbed: list[Seen]
) -> None:
    assert [counted(each) for each in disturbed] == [counted(each) for each in undisturbed]
    ids = {each.request_id for each in [*undisturbed, *disturbed]}
    events = wait_until(lambda: (found := billed(platform)).keys() >= ids and found, "all are billed")
    assert isinstance(events, dict)
    assert events.keys() == ids
    for each in disturbed:
        event = events[each.request_id]
        assert (event["prompt_tokens"], event["completion_tokens"]) == counted(each)
        assert (event["outcome"], event["estimated"]) == ("completed", False)


def test_the_killed_one_comes_back_and_nothing_is_held(platform: Platform, disturbed: list[Seen]) -> None:
    wait_until(lambda: len(engines(platform)) == 2, "two instances again", seconds=60)
    wait_until(lambda: not held(platform), f"nothing is held, but {held(platform)}", seconds=10)
