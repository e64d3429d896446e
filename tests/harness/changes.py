"""Every strategy of an upgrade on one running platform, at whatever pace: what a short and a long test share.

`Course` moves the user service, the model's endpoint and the gateway from release to release while an open
loop asks.
"""

import asyncio
import math
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import faulty_release
from harness.injector import Injector
from harness.open_loop import Kind, OpenLoop, getting, streaming
from harness.platform import Platform, wait_until
from harness.upgrading import add, kill, modules, told, view
from moonpool.adapters.spawner.control import ControlFleet
from moonpool.contracts.releases import CommandSource, EndpointSource, PackageSource, Release, Source

MODEL = "smollm2"
USERS, STREAMS = ("fresh", "kept"), ("streams", "slow")
"""Kinds of requests that the user service and the model's endpoint answer."""
PATIENT = {"unready_seconds": 60, "restarts": 10}
"""Limits of upgrades in which somebody kills, on machines that may be slow to start a process again."""
GAP = 0.15
"""Seconds between the events of the endpoint's streams."""
SETTLE = 1.0
"""Seconds until a weight that is in effect is so for all that begins."""


def load(platform: Platform, fresh: float, kept: float, streams: float, words: int) -> list[Kind]:
    def long(number: int) -> str:
        return f"stream {number} of {words} words"

    def slow(number: int) -> str:
        return f"slow {number} of 60 words"

    me = getting(platform, "/api/users/me")
    return [
        Kind("fresh", fresh, me),
        Kind("kept", kept, me, kept=True),
        Kind("models", fresh / 4, getting(platform, "/v1/models"), kept=True),
        Kind("streams", streams, streaming(platform, MODEL, long), prompt=long),
        Kind("slow", streams / 2, streaming(platform, MODEL, slow), prompt=slow, slow=0.1),
    ]


@dataclass
class Shares:
    """What was answered by the new release of so many, at which weight."""

    name: str
    weight: float
    asked: int
    new: int

    @property
    def sigmas(self) -> float:
        spread = math.sqrt(max(self.asked, 1) * self.weight * (1 - self.weight))
        return (self.new - self.weight * self.asked) / spread

    def __str__(self) -> str:
        return f"{self.name}: {self.new} of {self.asked} at {self.weight:.0%} ({self.sigmas:+.1f} sigma)"


@dataclass
class Course:
    """`soak` is how long each stop is held, in seconds; `suffix` makes the labels of each round its own."""

    platform: Platform
    fleet: ControlFleet
    loop: OpenLoop
    soak: float
    suffix: str = ""
    _counted: list[tuple[str, tuple[str, ...], str, float, float, float]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    async def add(self, service: str, *labels: str, source: Source | None = None) -> None:
        for label in map(self.label, labels):
            release = Release(service=service, label=label, note=label, source=source or PackageSource())
            await add(self.platform, release)

    def label(self, name: str) -> str:
        return name + self.suffix

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await asyncio.to_thread(self.platform.request, "POST", f"/admin/upgrades{path}", body)
        assert answer.status in (200, 201), answer.body
        found: dict[str, Any] = answer.json()
        return found

    async def begin(self, service: str, label: str, strategy: str, **plan: Any) -> str:
        plan = {"observe_seconds": 1, "soak_seconds": self.soak, **plan, "strategy": strategy}
        return str((await self.post("", {"service": service, "to": self.label(label), "plan": plan}))["id"])

    async def end(self, id: str, outcome: str = "promoted") -> dict[str, Any]:
        found = await self.until(id, "its end", lambda seen: bool(seen["outcome"]), seconds=600)
        assert found["outcome"] == outcome, found
        took = found["ended_at"] - found["started_at"]
        name = f"{found['service']}@{found['new']['release']} {found['strategy']}"
        self.told.append(f"{name}: {outcome} after {took:.1f} s. {found['reason']}")
        return found

    async def go(
        self, service: str, label: str, strategy: str, outcome: str = "promoted", **plan: Any
    ) -> dict[str, Any]:
        return await self.end(await self.begin(service, label, strategy, **plan), outcome)

    async def until(
        self, id: str, what: str, holds: Callable[[dict[str, Any]], bool], seconds: float = 60.0
    ) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            seen = view(self.platform, id)
            return seen if holds(seen) or seen["outcome"] else {}

        seen = await asyncio.to_thread(wait_until, look, what, seconds)
        assert holds(seen), f"{what}: {seen}"
        return seen

    async def carries(self, id: str, percent: float) -> None:
        """Until the new release has that weight in every gateway."""
        await self.until(id, f"{percent} % are in effect", lambda seen: seen["new"]["weight"] == percent)
        await asyncio.sleep(SETTLE)

    async def share(
        self, name: str, kinds: tuple[str, ...], release: str, weight: float, seconds: float
    ) -> None:
        """Count who answers what begins from now on."""
        since = time.monotonic()
        await asyncio.sleep(seconds)
        until = time.monotonic()
        self._counted.append((name + self.suffix, kinds, self.label(release), weight, since, until))

    # ── the user service ─────────────────────────────────────────────────────────────────────────

    async def users(self) -> None:
        """Rolling, blue-green, canary to the end, one that a person stops."""
        await self.add("user", "r2", "b3", "c4", "m5")

        await self.go("user", "r2", "rolling", replicas=2)
        await self.go("user", "b3", "blue-green", keep_old_seconds=self.soak, replicas=1)
        id = await self.begin("user", "c4", "canary", steps=[25], minimum_sample=10)
        await self.carries(id, 25)
        await self.share("canary of user", USERS, "user@c4", 0.25, self.soak - SETTLE)
        await self.end(id)
        id = await self.begin("user", "m5", "canary", steps=[10], soak_seconds=600)
        await self.carries(id, 10)
        await self.post(f"/{id}/abort", {"reason": "the test says so"})
        await self.end(id, "rolled_back")

    async def faulty(self) -> None:
        """A canary that analysis stops."""
        program = (sys.executable, str(Path(faulty_release.__file__)), "0.05")
        await self.add("user", "errs", source=CommandSource(argv=program))
        await self.go("user", "errs", "canary", "rolled_back", steps=[50], soak_seconds=600)

    # ── the model's endpoint ─────────────────────────────────────────────────────────────────────

    async def models(self, injector: Injector) -> None:
        """A canary while streams last longer than its phases, an experiment, a shadow."""
        await self.add("inference", "b", "c", "d", source=EndpointSource(url=injector.url, model=MODEL))
        id = await self.begin("inference", "b", "canary", steps=[50], minimum_sample=2)
        await self.carries(id, 50)
        await self.share("canary of a model", STREAMS, "inference@b", 0.5, self.soak - SETTLE)
        await self.end(id)
        id = await self.begin("inference", "c", "ab", split=30, unit="request", minimum_sample=2)
        await self.carries(id, 30)
        await self.share("experiment", STREAMS, "inference@c", 0.3, self.soak)
        page = await asyncio.to_thread(told, self.platform, "upgrade", "experiment", "inference")
        assert (page["split"], page["running"]) == (30, True)
        assert page["exposed"] > 0
        said = f"{page['exposed']} requests, {page['recommendation']}: {page['reason']}"
        self.told.append(f"experiment: {said}")
        await self.post(f"/{id}/promote", {"reason": "the test says so"})
        await self.end(id)
        shadow = {"percent": 50, "seconds": self.soak, "minimum_sample": 1}
        shadowed = await self.go("inference", "d", "shadow", "compared", shadow=shadow)
        assert shadowed["new"]["numbers"]["requests"] > 0
        assert self.loop.tally.by_release(STREAMS)[self.label("inference@d")] == 0

    # ── the gateway, and everybody who is killed ─────────────────────────────────────────────────

    async def gateways(self) -> None:
        """It hands its sockets on, twice."""
        await self.add("gateway", "g2", "g3")
        await self.go("gateway", "g2", "rolling")
        await self.go("gateway", "g3", "blue-green", keep_old_seconds=self.soak)

    async def kills_in_a_canary(self, old: str) -> None:
        """`kill -9` of the manager, the new and the old instance while both releases have traffic."""
        await self.add("user", "k6")
        id = await self.begin("user", "k6", "canary", steps=[50], soak_seconds=600, limits=PATIENT)
        await self._kill_once(("stage", "canary"), id, ("upgrade", ""))
        await self.carries(id, 50)
        for name, release in (("user", self.label("k6")), ("user", old), ("upgrade", "")):
            await self._kill(name, release)
        await self.post(f"/{id}/promote", {"reason": "enough"})
        await self.end(id)

    async def kills_in_a_switch(self, old: str) -> None:
        """The same while one release has everything, and while the other drains."""
        await self.add("user", "k7")
        waits = {"keep_old_seconds": 600, "observe_seconds": 600}
        id = await self.begin("user", "k7", "blue-green", limits=PATIENT, **waits)
        await self._kill_once(("promote",), id, ("upgrade", ""))
        await self.carries(id, 100)
        for name, release in (("user", self.label("k7")), ("user", old)):
            await self._kill(name, release)
        await self.until(id, "it waits for its window", lambda seen: "the window" in seen["waiting_for"])
        await self.post(f"/{id}/promote", {"reason": "enough"})
        await self._kill_once(("drain", "observe"), id, ("upgrade", ""))
        await self._kill_once(("observe",), id, ("user", self.label("k7")))
        await self.post(f"/{id}/promote", {"reason": "enough"})
        await self.end(id)

    async def second_gateway(self, label: str) -> None:
        """One more process on the same listening sockets."""
        await self.add("gateway", label)
        name = self.label(label)
        await self.fleet.ensure("gateway", name, 1)
        async with asyncio.timeout(30):
            while not any(d.release == name and d.ready for d in await self.fleet.deployments("gateway")):
                await asyncio.sleep(0.05)

    async def _kill_once(self, phases: tuple[str, ...], id: str, whom: tuple[str, str]) -> None:
        await self.until(id, f"it is in {phases}", lambda seen: seen["phase"] in phases)
        await self._kill(*whom)

    async def _kill(self, name: str, release: str) -> None:
        def there() -> dict[int, str]:
            found = [one for one in modules(self.platform, name) if release in ("", one["release"])]
            return {one["pid"]: one["state"] for one in found}

        killed = there().keys()
        assert await asyncio.to_thread(kill, self.platform, name, release) > 0, (name, release)
        self.told.append(f"killed {name} {release}".rstrip())

        def back() -> bool:
            now = there()  # at first as it was: it takes a moment to see that they are gone
            return bool(now) and killed.isdisjoint(now) and set(now.values()) == {"ready"}

        await asyncio.to_thread(wait_until, back, f"{name} {release} is back")

    def count(self) -> list[Shares]:
        """When all is answered that was counted."""
        found = []
        for name, kinds, release, weight, since, until in self._counted:
            by = self.loop.tally.by_release(kinds, since, until)
            by.pop("", None)  # of nobody: a fault, which is told elsewhere
            found.append(Shares(name, weight, sum(by.values()), by[release]))
        return found

    async def together(self, *parts: Coroutine[Any, Any, None]) -> None:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
