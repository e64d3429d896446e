"""200 streams are under way when one of their model's two endpoints is killed with `-9`: what each one got.

The endpoints are injectors, whose texts follow from the prompt: an undisturbed stream is known to the byte.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from chaos.faulty_answers import text_of
from harness.books import billed, held, record
from harness.exchanges import Ending, Seen, ask, chatting
from harness.injector import Injector, injecting
from harness.platform import Platform, running, wait_until

STREAMS = 200
WORDS = 30
SLOW: dict[str, Any] = {"kind": "trickle", "gap": 0.2, "bytes": 1 << 20}
"""An event every 200 ms: six seconds a stream."""
CONTINUED = 0.99
"""Share of the broken streams that must go on."""
PLENTY = {"requests_per_minute": 1_000_000, "tokens_per_minute": 1_000_000_000, "concurrent": 1000}


@dataclass(frozen=True)
class Kill:
    """What came of the streams, by their number, and how many of them the killed endpoint was serving."""

    alias: str
    seen: list[Seen]
    broken: int
    seconds: float


class Stage:
    """`both` begins at two endpoints, `one` all at the same, with another one standing by."""

    def __init__(self, platform: Platform, targets: dict[str, list[Injector]]) -> None:
        self.platform = platform
        self.targets = targets

    def kill(self, alias: str) -> Kill:
        victim, other = self.targets[alias]

        async def crowd() -> Kill:
            async with chatting(self.platform.url, self.platform.key) as client:
                began = time.monotonic()
                asked = [
                    asyncio.create_task(ask(client, alias, prompt(n), stream=True)) for n in range(STREAMS)
                ]
                await asyncio.to_thread(wait_until, lambda: began_at(alias, victim, other), "all began")
                await asyncio.sleep(1.5)
                broken = working(victim)
                await asyncio.to_thread(victim.kill)
                seen = list(await asyncio.gather(*asked))
                return Kill(alias, seen, broken, time.monotonic() - began)

        return asyncio.run(crowd())


def prompt(number: int) -> str:
    return f"{WORDS} words about {number}"


def began_at(alias: str, *injectors: Injector) -> bool:
    """Whether all streams have begun: on a slow machine the first ones may be over by then."""
    return sum(injector.count(alias) for injector in injectors) >= STREAMS


def working(*injectors: Injector) -> int:
    return sum(injector.stats()["active"] for injector in injectors)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as stack:
        targets = {alias: [stack.enter_context(injecting()) for _ in range(2)] for alias in ("both", "one")}
        for injector in [*targets["both"], *targets["one"]]:
            injector.fault(**SLOW)
        models = {
            "both": {"targets": [{"url": injector.url} for injector in targets["both"]]},
            "one": {
                "targets": [
                    {"url": injector.url, "priority": place} for place, injector in enumerate(targets["one"])
                ]
            },
        }
        config = {"models": models, "limits": {"default": PLENTY}, "telemetry": {"keep_requests": 5000}}
        yield Stage(
            stack.enter_context(running(tmp_path_factory.mktemp("streams") / "data", config)), targets
        )


@pytest.fixture(scope="module")
def descriptors(stage: Stage) -> int:
    """Files and sockets of the gateway after its first request."""
    assert stage.platform.request("GET", "/v1/models").status == 200
    return gateway(stage).num_fds()


def gateway(stage: Stage) -> psutil.Process:
    return psutil.Process(stage.platform.modules()["gateway"]["pid"])


@pytest.fixture(scope="module", params=[pytest.param("both", marks=pytest.mark.slow), "one"])
def kill(request: pytest.FixtureRequest, stage: Stage, descriptors: int) -> Kill:
    return stage.kill(request.param)


def test_no_stream_is_cut_and_all_go_on(stage: Stage, kill: Kill) -> None:
    endings = Counter(each.ending for each in kill.seen)
    print(f"\n{kill.alias}: {kill.broken} of {STREAMS} streams broken, {endings}, {kill.seconds:.1f} s")

    assert kill.broken >= STREAMS // 4, "the balancer has spared the one that was killed"
    assert endings.keys() <= {Ending.ANSWERED, Ending.BROKEN}, kill.seen
    assert kill.broken - endings[Ending.BROKEN] >= CONTINUED * kill.broken
    for number, each in enumerate(kill.seen):
        undisturbed = text_of(prompt(number))
        if each.ending is Ending.ANSWERED:
            assert each.text == undisturbed
        else:
            assert undisturbed.startswith(each.text)
            assert each.code


def test_each_is_counted_and_billed_once(stage: Stage, kill: Kill) -> None:
    answered = {each.request_id: each for each in kill.seen if each.ending is Ending.ANSWERED}
    for number, each in enumerate(kill.seen):
        if each.usage is not None:
            words = len(prompt(number).split())
            assert each.usage["completion_tokens"] == WORDS, each
            assert each.usage["prompt_tokens"] == words, each
    wait_until(lambda: answered.keys() <= billed(stage.platform).keys(), "all are billed")

    events = billed(stage.platform)
    assert events.keys() >= answered.keys()
    totals = stage.platform.request("GET", "/api/billing/usage?limit=0").json()["totals"]
    assert totals["requests"] == len(events)
    for request_id, each in answered.items():
        event = events[request_id]
        told = each.usage or {}
        assert (event["prompt_tokens"], event["completion_tokens"], event["outcome"], event["estimated"]) == (
            told["prompt_tokens"],
            told["completion_tokens"],
            "completed",
            False,
        )


def test_an_operator_sees_who_was_moved(stage: Stage, kill: Kill) -> None:
    """Of those who were not moved there is no need for a record."""
    records = [kept for each in kill.seen if (kept := record(stage.platform, each.request_id)) is not None]

    moved = [each for each in records if "MG" in each["flags"]]
    assert CONTINUED * kill.broken <= len(moved) <= kill.broken
    for each in moved:
        assert len(each["attempts"]) == 2
        assert ("failover", "continued") in {(d["filter"], d["verdict"]) for d in each["decisions"]}


def test_nothing_is_held_afterwards(stage: Stage, kill: Kill, descriptors: int) -> None:
    platform = stage.platform
    wait_until(lambda: not held(platform), f"nothing held by the gateway, but {held(platform)}", seconds=10)
    survivor = stage.targets[kill.alias][1]
    assert working(survivor) == 0
    for each in stage.targets.values():
        each[1].close_idle()
    wait_until(
        lambda: gateway(stage).num_fds() <= descriptors + 4,
        f"{descriptors} descriptors again, not {gateway(stage).num_fds()}",
        seconds=10,
    )
