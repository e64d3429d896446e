"""One upgrade that runs: looks at the world, lets the machine decide, keeps, acts.

    look ──► step ──► keep (only when the state is another) ──► act ──► look …

Nothing is remembered between two rounds that the database does not have, but for what the gateways told of
the moment. An effect that fails is tried again in the next round, since the difference is still there.
"""

import asyncio
from collections.abc import Mapping

from msgspec.structs import replace
from structlog.typing import FilteringBoundLogger

from moonpool.contracts.release_stats import ReleaseReport
from moonpool.contracts.routing import FULL, Unit
from moonpool.contracts.upgrades import Numbers, Phase
from moonpool.core.clock import Clock
from moonpool.core.errors import MoonpoolError
from moonpool.ports.spawner import Fleet
from moonpool.upgrade.epochs import remembering
from moonpool.upgrade.gates import Seen
from moonpool.upgrade.looking import look, preflight
from moonpool.upgrade.machine import step
from moonpool.upgrade.reports import Reports
from moonpool.upgrade.state import State
from moonpool.upgrade.store import MANAGER, Overtaken, Store, Upgrade
from moonpool.upgrade.surroundings import Documents, Followed
from moonpool.upgrade.traffic import write_route
from moonpool.upgrade.wishes import Effect, Ensure

STICKY = frozenset({"chat"})
"""Services most of whose requests are of conversations, which stay with their release: how requests are
shared out says little there."""


class Running:
    """`seen` is the world at the last look; `trouble` why the last round could not do what it wanted."""

    def __init__(
        self,
        upgrade: Upgrade,
        reports: Reports,
        *,
        store: Store,
        fleet: Fleet,
        documents: Documents,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self.upgrade = upgrade
        self.reports = reports
        self.seen = Seen()
        self.trouble = ""
        self.lock = asyncio.Lock()
        """Held for a round, and for a person's word: no effect of a state that is not the newest any more."""
        self._followed = Followed()
        self._store = store
        self._fleet = fleet
        self._documents = documents
        self._clock = clock
        self._log = log.bind(upgrade=upgrade.id, service=upgrade.service)

    async def round(self) -> bool:
        """Look, decide, keep, act, once; whether the state has changed. Raises no MoonpoolError."""
        async with self.lock:
            return await self._guarded_round()

    async def _guarded_round(self) -> bool:
        before = self.upgrade
        try:
            await self._round()
        except Overtaken:
            self.upgrade = await self._store.find(self.upgrade.id)
        except MoonpoolError as error:
            if error.detail != self.trouble:
                self._log.warning("the upgrade waits", reason=error.detail)
            self.trouble = error.detail
        else:
            self.trouble = ""
        return self.upgrade.version != before.version

    async def _round(self) -> None:
        self.seen = await self._look()
        upgrade = self.upgrade
        done = step(upgrade.course, upgrade.state, self.seen, self._clock.time())
        if done.state != upgrade.state:
            await self.keep(done.state, who=MANAGER, what=_told(upgrade, done.state))
        for effect in done.effects:
            await self._act(effect)
        if self.upgrade.state.ended:
            await self.let_go()

    async def keep(self, state: State, *, who: str, what: str) -> None:
        """Write the state down, with what was seen when it was decided. Raises Overtaken."""
        evidence = self._evidence() if what else {}
        self.upgrade = await self._store.keep(self.upgrade, state, who=who, what=what, evidence=evidence)
        if what:
            self._log.info("upgrade", phase=state.phase, why=state.reason, who=who)

    def take(self, report: ReleaseReport) -> bool:
        """Count a gateway's report; whether it was new."""
        routing = self._followed.routing
        plain = routing is not None and not (routing.cohorts or routing.cookie or routing.pins)
        plain = plain and self.upgrade.service not in STICKY
        share = self.seen.weight if plain and routing is not None and routing.unit is Unit.REQUEST else None
        return self.reports.take(
            report,
            stratum=self.upgrade.state.stratum,
            share=share,
            version=self._followed.version,
            now=self._clock.monotonic(),
        )

    async def let_go(self) -> None:
        """The routing document is nobody's any more. Safe to repeat, and of no harm when it is left out: an
        upgrade that has ended holds nothing."""
        followed = await self._documents.routing(self.upgrade.service)
        if followed.routing is not None and followed.routing.upgrade == self.upgrade.id:
            free = replace(followed.routing, upgrade="")
            await self._documents.write(free, version=followed.version, why=f"{self.upgrade.id} has ended")

    async def _look(self) -> Seen:
        upgrade, course = self.upgrade, self.upgrade.course
        deployments = await self._fleet.deployments(course.service)
        self._followed = (
            await self._documents.routing(course.service)
            if course.routed
            else Followed(at=upgrade.started_at)
        )
        faults: tuple[str, ...] = ()
        if upgrade.state.acting is Phase.PREFLIGHT:
            releases = await self._documents.releases()
            faults = preflight(course, releases, deployments)
        return look(
            course,
            upgrade.state,
            deployments,
            self._followed,
            self.reports,
            faults,
            now=self._clock.time(),
            monotonic=self._clock.monotonic(),
        )

    async def _act(self, effect: Effect) -> None:
        course = self.upgrade.course
        if isinstance(effect, Ensure):
            if effect.replicas:
                await self._fleet.ensure(course.service, effect.release, effect.replicas)
            else:
                await self._fleet.remove(course.service, effect.release)
            return
        before = self._followed.routing
        document = write_route(before, course, effect, self.upgrade.id)
        document = remembering(before, document, self._clock.time())
        why = f"{self.upgrade.id}: {self.upgrade.state.phase}"
        await self._documents.write(document, version=self._followed.version, why=why)

    def _evidence(self) -> Mapping[str, str]:
        """The numbers behind a decision, for the history."""
        seen, course = self.seen, self.upgrade.course
        old, new = self.reports.numbers(self._clock.monotonic())
        found = {"weight": f"{seen.weight * 100 / FULL:g} %"}
        for label, it, numbers in ((course.new, seen.new, new), (course.old, seen.old, old)):
            found[label] = (
                f"{it.ready} of {it.wanted} ready, {numbers.requests} requests, {numbers.errors} errors"
            )
        if old.tokens or new.tokens:
            found["cost"] = _cost(old, new)
        if seen.verdict.reason:
            found["verdict"] = f"{seen.verdict.kind}: {seen.verdict.reason}"
        return found


def _cost(old: Numbers, new: Numbers) -> str:
    """What tokens cost, for the history."""
    if old.cost_per_million is None or new.cost_per_million is None:
        return f"prices not known, tokens compared: {new.tokens} of new, {old.tokens} of old"
    return f"{new.cost_per_million:.4g} for a million tokens instead of {old.cost_per_million:.4g}"


def _told(upgrade: Upgrade, after: State) -> str:
    """A transition, for the history; "" for what is kept without being one."""
    before = upgrade.state
    if (before.phase, before.stop) == (after.phase, after.stop):
        return ""
    if after.phase is Phase.CANARY:
        return f"canary: {upgrade.course.stops[after.stop].weight * 100 / FULL:g} %"
    return after.phase.replace("_", " ")
