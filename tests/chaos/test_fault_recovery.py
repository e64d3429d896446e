"""An endpoint that fails for everybody, and then is well again: no storm while, no herd after.

With the platform's own defaults, under load that does not wait for answers (an open loop).
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from harness.exchanges import Ending, Seen, chatting, offer
from harness.injector import Injector, injecting
from harness.platform import Platform, running

OPEN = 5.0
"""Seconds that a breaker stays open the first time (SEMANTICS of breakers), 20 % more or less."""
LATEST = OPEN * 1.2 + 1.0
OFFERED, SECONDS = 200, 4.0
"""Of the storm."""
MOST = 1.2 * OFFERED + 10 * SECONDS
"""What the endpoint may see of it: a fifth more, and ten a second that are always granted."""
RATE = 50.0
"""Requests a second for each model while an endpoint recovers…"""
WARM, FAILING = 2.0, 2.5
"""…after so many good seconds and so many bad ones."""
TAKES = 0.15
"""Seconds that the recovering endpoint takes for an answer: what comes meanwhile comes uncalled-for."""
HERD = 0.1
RETURNED = 10
"""Requests after which an endpoint is in use again, and not only tried."""
STORM, ALONE, PAIR, TIERED = "storm", "alone", "pair", "tiered"
"""The failing endpoint by itself; with an equal; as the first choice before another. Of a pair the balancer
may leave it before its breaker opens, of tiers only the breaker keeps requests away."""


@dataclass(frozen=True)
class Stage:
    platform: Platform
    faulty: Injector
    healthy: Injector


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with injecting() as faulty, injecting() as healthy:
        bad, good = {"url": faulty.url}, {"url": healthy.url}
        second = {**good, "priority": 1}
        models = {STORM: [bad], ALONE: [bad], PAIR: [bad, good], TIERED: [bad, second]}
        plenty = {"requests_per_minute": 1_000_000, "tokens_per_minute": 1_000_000_000, "concurrent": 1000}
        config: dict[str, Any] = {
            "models": {alias: {"targets": targets} for alias, targets in models.items()},
            "limits": {"default": plenty},
        }
        with running(tmp_path_factory.mktemp("recovery") / "data", config) as platform:
            yield Stage(platform, faulty, healthy)


def test_no_storm(stage: Stage) -> None:
    stage.faulty.fault(STORM, "status", status=500)

    async def storm() -> list[Seen]:
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(SECONDS, over.set)
        async with chatting(stage.platform.url, stage.platform.key) as client:
            rate = OFFERED / SECONDS / 2
            halves = (offer(client, STORM, rate, over, stream=stream) for stream in (False, True))
            return [seen for half in await asyncio.gather(*halves) for seen in half]

    seen = asyncio.run(storm())

    assert len(seen) == pytest.approx(OFFERED, abs=4)
    assert stage.faulty.count(STORM) <= MOST
    assert {each.ending for each in seen} == {Ending.REFUSED}
    assert {each.status for each in seen} == {503}
    assert all(int(each.headers["retry-after"]) >= 1 for each in seen)
    assert max(each.seconds for each in seen) < 10.0, "nobody waits for an endpoint that fails"


@dataclass(frozen=True)
class Recovery:
    """`arrived` are the times at which the failing endpoint was asked; all are monotonic."""

    failed_at: float
    mended_at: float
    seen: list[Seen]
    arrived: list[float]

    def between(self, start: float, end: float) -> int:
        return sum(start <= at < end for at in self.arrived)

    @property
    def returned(self) -> float:
        """When the endpoint was first asked after it was well again."""
        return next((at for at in self.arrived if at >= self.mended_at), float("inf"))


@pytest.fixture(scope="module")
def recoveries(stage: Stage) -> dict[str, Recovery]:
    return asyncio.run(run(stage))


async def run(stage: Stage) -> dict[str, Recovery]:
    aliases, over = (ALONE, PAIR, TIERED), asyncio.Event()
    async with chatting(stage.platform.url, stage.platform.key) as client:
        load = asyncio.gather(*(offer(client, alias, RATE, over) for alias in aliases))
        await asyncio.sleep(WARM)
        for alias in aliases:
            stage.faulty.fault(alias, "status", status=500)
        failed_at = time.monotonic()
        await asyncio.sleep(FAILING)
        for alias in aliases:
            stage.faulty.fault(alias, delay=TAKES)
        mended_at = time.monotonic()
        before = await asyncio.to_thread(counts, stage)
        while time.monotonic() < mended_at + LATEST:
            now = await asyncio.to_thread(counts, stage)
            if all(now[alias] >= before[alias] + RETURNED for alias in (ALONE, TIERED)):
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.0)
        over.set()
        seen = dict(zip(aliases, await load, strict=True))
    return {
        alias: Recovery(failed_at, mended_at, seen[alias], [each["at"] for each in stage.faulty.log(alias)])
        for alias in aliases
    }


def counts(stage: Stage) -> dict[str, int]:
    """How often the failing endpoint was asked."""
    return {alias: stage.faulty.count(alias) for alias in (ALONE, TIERED)}


@pytest.mark.parametrize("alias", [PAIR, TIERED])
def test_clients_notice_nothing(recoveries: dict[str, Recovery], alias: str) -> None:
    seen = recoveries[alias].seen

    assert [each for each in seen if each.ending is not Ending.ANSWERED] == []
    assert {each.fallback for each in seen} <= {"", "failover"}


@pytest.mark.parametrize("alias", [ALONE, TIERED])
def test_recovery(recoveries: dict[str, Recovery], alias: str) -> None:
    """Of a pair the balancer may leave it before its breaker opens, and trusts it again at its own pace: its
    equal is there, so that costs nobody anything."""
    recovery = recoveries[alias]

    assert recovery.between(recovery.failed_at - 1.0, recovery.failed_at) > 0, "it was in use"
    assert recovery.returned <= recovery.mended_at + LATEST, "within one open period"
    assert recovery.between(recovery.returned + 0.5, float("inf")) > 0, "and not only for one probe"
    assert recovery.seen[-1].ending is Ending.ANSWERED


def test_no_herd(recoveries: dict[str, Recovery]) -> None:
    """One probe first: the others go on to where they went."""
    recovery = recoveries[TIERED]

    assert recovery.between(recovery.mended_at - 1.0, recovery.mended_at) <= 3, "it was left alone"
    assert recovery.between(recovery.returned, recovery.returned + HERD) == 1


def test_a_lonely_endpoint_is_not_overrun(recoveries: dict[str, Recovery]) -> None:
    """Nothing has piled up in front of it: not more comes than is offered, and the probes."""
    recovery = recoveries[ALONE]

    assert recovery.between(recovery.returned, recovery.returned + HERD) <= RATE * HERD * 1.2 + 1
