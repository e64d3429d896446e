"""The upgrade manager: begins upgrades, hears people, and keeps every upgrade that runs going.

Whatever was running when an earlier manager ended is found in the database and goes on from there.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.contracts.documents.place import spell
from moonpool.contracts.documents.validation import DocumentFault
from moonpool.contracts.release_stats import TOPIC, ReleaseReport
from moonpool.contracts.releases import FIRST, MODULES, ReleaseList
from moonpool.contracts.upgrades import Rehearsal, StartUpgrade, Strategy, UpgradePlan, UpgradeView
from moonpool.core.clock import Clock
from moonpool.core.errors import Conflict, MoonpoolError, NotFound
from moonpool.core.ids import new_id
from moonpool.ports.config import Problem
from moonpool.ports.events import Delivered, EventLog
from moonpool.ports.spawner import Deployment, Fleet
from moonpool.upgrade import machine
from moonpool.upgrade.looking import current, preflight
from moonpool.upgrade.plan import misfits, problems
from moonpool.upgrade.reports import Gathered, Reports
from moonpool.upgrade.running import Running
from moonpool.upgrade.state import Command, Outcome, Refused, State
from moonpool.upgrade.store import Overtaken, Store, Upgrade
from moonpool.upgrade.strategies import Course, compile_course, describe
from moonpool.upgrade.surroundings import Documents
from moonpool.upgrade.views import upgrade_view

ROUND = 0.5
"""Seconds between two rounds while an upgrade runs."""
GROUP = "upgrade-manager"
RETRIES = 5
"""Times a person's word is tried again when the machine has just moved on."""


class Manager:
    """`run` and `listen` are jobs beside the requests."""

    def __init__(
        self,
        *,
        store: Store,
        fleet: Fleet,
        documents: Documents,
        events: EventLog,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._documents = documents
        self._events = events
        self._clock = clock
        self._log = log
        self._running: dict[str, Running] = {}
        self._wake = asyncio.Event()
        self._watchers: set[asyncio.Event] = set()
        self._swept = False

    # ── what people say ──────────────────────────────────────────────────────────────────────────

    async def start(self, wish: StartUpgrade, who: str) -> UpgradeView | Rehearsal:
        """Begin an upgrade, or tell what would happen. Raises DocumentFault for a plan that does not fit,
        NotFound and Conflict for what cannot be begun; then nothing has changed."""
        course = await self._course(wish)
        if wish.dry_run:
            return Rehearsal(
                service=course.service,
                old=course.old,
                new=course.new,
                strategy=course.strategy,
                steps=describe(course),
                plan=wish.plan,
            )
        now = self._clock.time()
        upgrade = Upgrade(
            id=new_id("up", self._clock),
            service=wish.service,
            state=State(since=now, reason=wish.reason),
            course=course,
            plan=wish.plan,
            reason=wish.reason,
            started_by=who,
            started_at=now,
        )
        await self._store.begin(upgrade)
        running = self._running[upgrade.id] = self._make(upgrade, None)
        self._wake.set()
        return self._view(running)

    async def _course(self, wish: StartUpgrade) -> Course:
        _refuse(list(problems("plan", wish.plan)))
        deployments = await self._fleet.deployments(wish.service)
        followed = await self._documents.routing(wish.service)
        old, full = current(wish.service, deployments, followed.routing)
        _refuse(list(misfits(wish.service, wish.plan, full)))
        course = compile_course(wish.service, old, wish.to, full, wish.plan)
        faults = preflight(course, await self._documents.releases(), deployments)
        if faults:
            raise _refusal(faults)
        if any(one.service == wish.service for one in await self._store.active()):
            raise Conflict(
                f"{wish.service} is being upgraded already",
                code="upgrade_running",
                hint=f"Wait for its end, or `moonpool upgrade abort {wish.service}`.",
            )
        return course

    async def say(self, name: str, word: Command, why: str, who: str) -> UpgradeView:
        """A person's word to an upgrade (by id or service). Raises NotFound, and Conflict when it makes no
        sense now; then nothing has changed."""
        for _ in range(RETRIES):
            running = await self._find_running(name)
            async with running.lock:
                upgrade = running.upgrade
                try:
                    after = machine.command(upgrade.course, upgrade.state, word, why, self._clock.time())
                    await running.keep(after, who=who, what=word.value)
                except Refused as refused:
                    raise Conflict(str(refused), code="not_now", hint=refused.hint) from None
                except Overtaken:  # by another manager, which is just ending
                    running.upgrade = await self._store.find(upgrade.id)
                    continue
            self._wake.set()
            self._tell()
            return self._view(running)
        raise Conflict("the upgrade moves too quickly to be told anything", hint="Try again.")

    async def rollback(self, name: str, why: str, who: str) -> UpgradeView:
        """Back to where it came from: an upgrade that runs is aborted; one that is done is undone by another
        one in the other direction, at once. Raises Conflict when the old release is gone."""
        last = await self._last(name)
        if last is not None and not last.state.ended:
            return await self.say(last.id, Command.ABORT, why or "told to roll back", who)
        if last is None or last.state.outcome is not Outcome.PROMOTED:
            raise Conflict(
                f"there is nothing to roll back at {name}",
                code="nothing_to_roll_back",
                hint="`moonpool upgrade history` tells what was done.",
            )
        old = last.course.old
        listed = (await self._documents.releases()).releases
        if old != FIRST and old not in [o.release.label for o in listed if o.release.service == last.service]:
            raise Conflict(
                f"{last.service}@{old} is gone",
                code="release_gone",
                hint=f"Add it again with `moonpool release add {last.service}`, then start an upgrade to it.",
            )
        plan = UpgradePlan(strategy=Strategy.BLUE_GREEN, keep_old_seconds=0.0, replicas=last.course.full)
        reason = why or f"roll back {last.id}"
        view = await self.start(StartUpgrade(service=last.service, to=old, plan=plan, reason=reason), who)
        assert isinstance(view, UpgradeView)
        return view

    # ── what people see ──────────────────────────────────────────────────────────────────────────

    async def view(self, name: str) -> UpgradeView:
        """By id, or the newest of a service. Raises NotFound."""
        upgrade = await self._last(name)
        if upgrade is None:
            upgrade = await self._store.find(name)
        return await self.view_of(upgrade)

    async def view_of(self, upgrade: Upgrade) -> UpgradeView:
        running = self._running.get(upgrade.id)
        if running is not None:
            return self._view(running)
        gone = self._make(upgrade, await self._gathered(upgrade.id))
        return self._view(gone)

    async def upgrade(self, name: str) -> Upgrade:
        found = await self._last(name)
        return found or await self._store.find(name)

    async def releases(self, service: str) -> tuple[ReleaseList, tuple[Deployment, ...]]:
        """What was added, and what should run."""
        return await self._documents.releases(), await self._fleet.deployments(service)

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever there is something new to see."""
        event = asyncio.Event()
        self._watchers.add(event)
        try:
            yield event
        finally:
            self._watchers.discard(event)

    # ── jobs ─────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Keep all upgrades going, for ever."""
        await self.resume()
        while True:
            self._wake.clear()
            if await self.turn():
                self._wake.set()
            await self._pause()

    async def turn(self) -> bool:
        """One round of every upgrade that runs; whether any has changed."""
        changed = False
        for running in list(self._running.values()):
            changed = await running.round() or changed
            if running.upgrade.state.ended and not running.trouble:
                await self._end(running)
        await self._sweep()
        if changed or self._running:
            self._tell()
        return changed

    async def _pause(self) -> None:
        """Until something is to be done: at once after a change, soon while an upgrade runs."""
        try:
            async with asyncio.timeout(ROUND if self._running or not self._swept else None):
                await self._wake.wait()
        except TimeoutError:
            return

    async def resume(self) -> None:
        """Take up what an earlier manager has left running."""
        for upgrade in await self._store.active():
            if upgrade.id not in self._running:
                self._running[upgrade.id] = self._make(upgrade, await self._gathered(upgrade.id))
                self._log.info("upgrade goes on", upgrade=upgrade.id, phase=upgrade.state.phase)

    async def _sweep(self) -> None:
        """Once: take back routing documents of upgrades that had just ended when their manager did. Gateways
        would go on telling of them for ever."""
        if self._swept:
            return
        try:
            for service in MODULES:
                routing = (await self._documents.routing(service)).routing
                if routing is None or not routing.upgrade or routing.upgrade in self._running:
                    continue
                last = await self._store.last(service)
                if last is not None and last.id == routing.upgrade and last.state.ended:
                    await self._make(last, None).let_go()
        except MoonpoolError as error:
            self._log.debug("routing documents are looked through later", reason=error.detail)
        else:
            self._swept = True

    async def _end(self, running: Running) -> None:
        await self._save(running)
        self._running.pop(running.upgrade.id, None)

    async def listen(self) -> None:
        """Count what gateways tell, for ever. Evidence is kept before its reports are done with; a report
        that comes again after a kill is known by its sequence."""
        async with self._events.consumer(TOPIC, GROUP, from_end=True) as consumer:
            while True:
                delivered = await consumer.poll(wait=5.0)
                if not delivered:
                    continue
                counted = [running for running in self._running.values() if _count(running, delivered)]
                for running in counted:
                    await self._save(running)
                await consumer.commit()

    async def _save(self, running: Running) -> None:
        value = msgspec.json.encode(running.reports.gathered)
        await self._store.save_evidence(running.upgrade.id, value)

    # ── parts ────────────────────────────────────────────────────────────────────────────────────

    def _make(self, upgrade: Upgrade, gathered: Gathered | None) -> Running:
        return Running(
            upgrade,
            Reports(upgrade.course, upgrade.plan, gathered),
            store=self._store,
            fleet=self._fleet,
            documents=self._documents,
            clock=self._clock,
            log=self._log,
        )

    async def _gathered(self, id: str) -> Gathered | None:
        value = await self._store.load_evidence(id)
        if value is None:
            return None
        try:
            return msgspec.json.decode(value, type=Gathered)
        except msgspec.DecodeError:  # another version's: begin to gather anew rather than not go on
            self._log.warning("the evidence of an upgrade cannot be read", upgrade=id)
            return None

    async def _last(self, name: str) -> Upgrade | None:
        return await self._store.last(name) if not name.startswith("up_") else await self._store.find(name)

    async def _find_running(self, name: str) -> Running:
        for running in self._running.values():
            if name in (running.upgrade.id, running.upgrade.service):
                return running
        found = await self._last(name)
        if found is None:
            raise NotFound(
                f"{name} was never upgraded",
                code="unknown_upgrade",
                hint="`moonpool upgrade start` begins one.",
            )
        if not found.state.ended:  # of a manager before this one, and just being resumed
            await self.resume()
            return self._running[found.id]
        return self._make(found, None)

    def _view(self, running: Running) -> UpgradeView:
        return upgrade_view(
            running.upgrade,
            running.seen,
            running.reports,
            trouble=running.trouble,
            now=self._clock.time(),
            monotonic=self._clock.monotonic(),
        )

    def _tell(self) -> None:
        for event in self._watchers:
            event.set()


def _count(running: Running, delivered: Sequence[Delivered]) -> bool:
    """Whether any of these reports was new."""
    found = False
    for one in delivered:
        try:
            report = msgspec.json.decode(one.event.value, type=ReleaseReport)
        except msgspec.DecodeError:
            continue  # of a gateway that speaks another version: its numbers are not there
        found = running.take(report) or found
    return found


def _refuse(found: list[Problem]) -> None:
    for problem in found:
        raise DocumentFault(problem.path, f"{spell(problem.path)}: {problem.message}", problem.hint)


def _refusal(faults: Sequence[str]) -> MoonpoolError:
    message, _, hint = faults[0].partition(": ")
    return Conflict(message, code="preflight", hint=hint[:1].upper() + hint[1:] + ".")
