"""A manager on a real database, with a fleet and documents in memory that do what they are told at once, and
gateways that tell what a test wants them to."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import structlog

from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.contracts.release_stats import ReleaseCounts, ReleaseReport
from moonpool.contracts.releases import ListedRelease, Release, ReleaseList
from moonpool.contracts.routing import Routing
from moonpool.core.clock import ManualClock
from moonpool.core.errors import Conflict, Unavailable
from moonpool.ports.discovery import Instance
from moonpool.ports.spawner import Deployment
from moonpool.upgrade.manager import Manager
from moonpool.upgrade.store import Store
from moonpool.upgrade.surroundings import Followed

MIGRATIONS = Path(__file__).parents[3] / "src/moonpool/upgrade/migrations"


class MemoryFleet:
    """`bad` are releases that do not get ready: with the state and reason of their instances."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.wanted: dict[tuple[str, str], int] = {}
        self.bad: dict[str, tuple[str, str, int]] = {}
        self.away = False
        self.asked: list[str] = []

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the supervisor is away")

    async def deployments(self, service: str = "") -> tuple[Deployment, ...]:
        self._check()
        return tuple(
            Deployment(
                service=name, release=label, replicas=count, instances=self._instances(name, label, count)
            )
            for (name, label), count in self.wanted.items()
            if service in ("", name)
        )

    def _instances(self, name: str, label: str, count: int) -> tuple[Instance, ...]:
        state, reason, restarts = self.bad.get(label, ("ready", "", 0))
        return tuple(
            Instance(
                name=name,
                release=label,
                instance=f"{name}-{label}-{number}",
                pid=1,
                state=state,
                endpoint="unix:/x",
                reason=reason,
                restarts=restarts,
                since=self._clock.time() - 5.0,
            )
            for number in range(count)
        )

    async def ensure(self, service: str, release: str, replicas: int) -> None:
        self._check()
        self.asked.append(f"{release}={replicas}")
        self.wanted[service, release] = replicas

    async def remove(self, service: str, release: str) -> None:
        self._check()
        self.asked.append(f"{release}=0")
        self.wanted.pop((service, release), None)

    async def drain(self, instance: str) -> None: ...

    async def instances(self, service: str = "") -> tuple[Instance, ...]:
        return tuple(one for each in await self.deployments(service) for one in each.instances)


class MemoryDocuments:
    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.followed: dict[str, Followed] = {}
        self.labels = ["v2"]
        self.away = False
        self.weights: list[tuple[int, int]] = []
        """(old, new) of every document that was written."""

    async def routing(self, service: str) -> Followed:
        if self.away:
            raise Unavailable("the config server is away")
        return self.followed.get(service, Followed(at=self._clock.time() - 60))

    async def write(self, routing: Routing, *, version: int, why: str) -> None:
        present = await self.routing(routing.service)
        if present.version != version:
            raise Conflict("another version is there")
        weights = {share.release: share.weight for share in routing.shares}
        self.weights.append((weights.get("v1", 0), weights.get("v2", 0)))
        self.followed[routing.service] = Followed(routing=routing, version=version + 1, at=self._clock.time())

    async def releases(self) -> ReleaseList:
        return ReleaseList(
            tuple(ListedRelease(release=Release(service="chat", label=x)) for x in self.labels)
        )


class Stage:
    """Everything around one manager. `kill` makes another one of what is on the disk."""

    def __init__(self, database: SqliteDatabase, events: object) -> None:
        self.clock = ManualClock()
        self.fleet = MemoryFleet(self.clock)
        self.documents = MemoryDocuments(self.clock)
        self.fleet.wanted["chat", "v1"] = 2
        self.store = Store(database, self.clock)
        self.events = events
        self.manager = self.make()
        self.sequence = 0

    def make(self) -> Manager:
        return Manager(
            store=self.store,
            fleet=self.fleet,
            documents=self.documents,
            events=self.events,  # type: ignore[arg-type]
            clock=self.clock,
            log=structlog.get_logger(),
        )

    async def kill(self) -> None:
        self.manager = self.make()
        await self.manager.resume()

    def report(
        self, *, old: int = 0, new: int = 0, old_errors: int = 0, new_errors: int = 0
    ) -> ReleaseReport:
        """What a gateway that follows the newest document tells of one second."""
        self.sequence += 1
        counts = [
            ReleaseCounts(service="chat", release="v1", started=old, ended=old, errors=old_errors),
            ReleaseCounts(service="chat", release="v2", started=new, ended=new, errors=new_errors),
        ]
        followed = self.documents.followed.get("chat", Followed())
        return ReleaseReport(
            gateway="gateway-0-a",
            sequence=self.sequence,
            at=self.clock.time(),
            seconds=1.0,
            counts=counts,
            routing={"chat": followed.version},
        )

    async def second(self, *, errors: float = 0.0, per_second: int = 100, rounds: int = 3) -> None:
        """One second of traffic, shared out as the document says, and the manager's rounds in it.
        `errors` is the share of the new release's answers that fail."""
        self.clock.advance(1.0)
        followed = self.documents.followed.get("chat", Followed())
        weights = (
            {s.release: s.weight for s in followed.routing.shares} if followed.routing else {"v1": 10_000}
        )
        if followed.routing is not None:
            weights = {k: v for k, v in weights.items() if k not in followed.routing.killed}
        new = per_second * weights.get("v2", 0) // 10_000
        old = per_second - new if weights.get("v1") else 0
        report = self.report(old=old, new=new, new_errors=round(new * errors))
        for running in self.manager._running.values():
            running.take(report)
        for _ in range(rounds):
            await self.manager.turn()

    async def until(
        self, *phases: str, seconds: int = 400, errors: float = 0.0, per_second: int = 100
    ) -> str:
        """Let time pass until the newest upgrade of chat is in one of `phases`."""
        for _ in range(seconds):
            view = await self.manager.view("chat")
            if view.phase in phases:
                return view.phase
            await self.second(errors=errors, per_second=per_second)
        view = await self.manager.view("chat")
        raise AssertionError(f"still {view.phase}: {view.reason}, waits for {view.waiting_for}")


MakeStage = Callable[[], Awaitable[Stage]]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        database = SqliteDatabase(tmp_path / "upgrade.db", MIGRATIONS)
        await database.start()
        stack.push_async_callback(database.stop)
        yield Stage(database, None)
