"""The upgrade's state machine against a world that does what it likes: instances come up late and crash, the
manager is killed between any two effects, people say anything at any time, gateways hear of rules late."""

from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from moonpool.contracts.routing import FULL
from moonpool.contracts.upgrades import Phase, ShadowPlan, Strategy, UpgradePlan
from moonpool.upgrade.gates import Judgement, ReleaseSeen, Seen, Verdict
from moonpool.upgrade.machine import command, step
from moonpool.upgrade.state import Command, Outcome, Refused, State
from moonpool.upgrade.strategies import Course, compile_course
from moonpool.upgrade.wishes import Ensure, Route

OLD, NEW = "v1", "v2"
GOOD = Judgement(Verdict.FINE, "no difference")


class Release:
    """What a fleet keeps running: `up` are ready, `coming` started, `going` draining."""

    def __init__(self, up: int) -> None:
        self.wanted = self.up = up
        self.coming = self.going = self.restarts = 0
        self.carried = False

    def ensure(self, replicas: int) -> None:
        self.wanted = replicas
        surplus = max(0, self.up + self.coming - replicas)
        unborn = min(self.coming, surplus)
        self.coming -= unborn
        self.up -= surplus - unborn
        self.going += surplus - unborn
        self.coming += max(0, replicas - self.up - self.coming)

    def seen(self) -> ReleaseSeen:
        left = self.up + self.coming + self.going
        return ReleaseSeen(wanted=self.wanted, ready=self.up, left=left, restarts=self.restarts)


class World:
    def __init__(self, course: Course) -> None:
        self.course = course
        self.now = 1_000_000.0
        self.old, self.new = Release(course.full), Release(0)
        self.route = Route(0, only=OLD)
        self.applied = self.route
        """What the gateways follow."""
        self.changed = self.now
        self.verdict = GOOD
        self.breach = ""
        self.traffic = True
        self.sample = 0

    def act(self, effect: Ensure | Route) -> None:
        if isinstance(effect, Ensure):
            release = self.new if effect.release == NEW else self.old
            other = self.old if effect.release == NEW else self.new
            if effect.replicas == 0:
                assert not self.leads_to(effect.release), (
                    f"{effect.release} is stopped while rules lead to it"
                )
                assert other.up or not release.up, "the last ready release is stopped"
                if effect.release == OLD:
                    assert self.new.carried, "the old release is stopped before the new one has carried"
            release.ensure(effect.replicas)
        else:
            assert 0 <= effect.weight <= FULL
            ready = {NEW: self.new.up, OLD: self.old.up}
            if effect.weight and effect.weight > self.route.weight:
                assert (
                    FULL * self.new.up // self.course.replicas >= effect.weight
                    or not self.old.up
                    or (self.old.up < self.course.full)
                ), "more weight than ready capacity"
            if self.new.up or self.old.up:
                assert ready[NEW] if effect.weight == FULL else True
                assert ready[OLD] if effect.weight == 0 else True
            self.route = effect
            self.changed = self.now

    def leads_to(self, release: str) -> bool:
        """Whether the rules that gateways follow send anything there."""
        route = self.applied  # what is listed can be reached by header, whatever its weight
        if release == NEW:
            return not route.killed and route.only != OLD
        return route.only != NEW

    def seen(self) -> Seen:
        route, course = self.route, self.course
        off = route.killed or route.only == OLD
        return Seen(
            new=self.new.seen(),
            old=self.old.seen(),
            weight=route.weight,
            mirror=route.mirror,
            only=route.only,
            off=off if course.routed else False,
            applied=self.applied == route,
            routed_for=self.now - self.changed,
            new_quiet=not self.leads_to(NEW) if course.routed else None,
            old_quiet=not self.leads_to(OLD) if course.routed else None,
            sample=self.sample,
            verdict=self.verdict,
            breach=self.breach,
        )

    def turn(self, seconds: float) -> None:
        self.now += seconds
        self.applied = self.route
        for release in (self.old, self.new):
            release.going = 0
        if self.traffic:
            self.sample += 1000
        if self.applied.weight == FULL and self.new.up:
            self.new.carried = True


PLANS = st.builds(
    lambda strategy, shadow, **fields: UpgradePlan(
        strategy=strategy,
        steps=(5.0, 50.0),
        shadow=ShadowPlan(seconds=5) if shadow and strategy in (Strategy.CANARY, Strategy.SHADOW) else None,
        soak_seconds=5,
        patience_seconds=120,
        observe_seconds=5,
        **fields,
    ),
    strategy=st.sampled_from(Strategy),
    shadow=st.booleans(),
    replicas=st.integers(0, 3),
    keep_old_seconds=st.sampled_from([None, 0.0, 30.0]),
    conclude=st.booleans(),
)


class Upgrades(RuleBasedStateMachine):
    @initialize(plan=PLANS, full=st.integers(1, 4))
    def begin(self, plan: UpgradePlan, full: int) -> None:
        self.course = compile_course("chat", OLD, NEW, full, plan)
        self.world = World(self.course)
        self.kept = State(since=self.world.now)
        """What is on disk: a killed manager begins from here."""
        self.stratum = 0

    # ── the manager ──────────────────────────────────────────────────────────────────────────────

    def tick(self, killed_after: int | None = None) -> None:
        """One look of the manager, which is killed before it does more than so many effects."""
        done = step(self.course, self.kept, self.world.seen(), self.world.now)
        self.kept = msgspec.json.decode(msgspec.json.encode(done.state), type=State)
        if self.kept.stratum != self.stratum:
            self.stratum, self.world.sample = self.kept.stratum, 0
        for effect in done.effects[:killed_after]:
            self.world.act(effect)
        if killed_after is None:
            again = step(self.course, self.kept, self.world.seen(), self.world.now)
            if again.state == self.kept:
                repeated = [effect for effect in again.effects if effect in done.effects]
                assert not repeated, "an effect does not take effect"

    @rule(seconds=st.sampled_from([0.5, 2.0, 10.0, 60.0]))
    def look(self, seconds: float) -> None:
        self.world.turn(seconds)
        self.tick()

    @rule(effects=st.integers(0, 2))
    def look_and_die(self, effects: int) -> None:
        self.tick(killed_after=effects)

    @rule(word=st.sampled_from(Command))
    def say(self, word: Command) -> None:
        try:
            self.kept = command(self.course, self.kept, word, "", self.world.now)
        except Refused as refusal:
            self.refused = refusal

    @invariant()
    def a_refusal_tells_the_way_out(self) -> None:
        assert getattr(self, "refused", None) is None or self.refused.hint

    # ── the world ────────────────────────────────────────────────────────────────────────────────

    @rule(new=st.booleans())
    def come_up(self, new: bool) -> None:
        release = self.world.new if new else self.world.old
        if release.coming:
            release.coming -= 1
            release.up += 1

    @rule(new=st.booleans(), times=st.integers(1, 4))
    def crash(self, new: bool, times: int) -> None:
        release = self.world.new if new else self.world.old
        for _ in range(min(times, release.up)):
            release.up -= 1
            release.coming += 1
            release.restarts += 1

    @rule(
        verdict=st.sampled_from(
            [Verdict.FINE, Verdict.NO_DATA, Verdict.UNDECIDED, Verdict.WORSE, Verdict.INVALID, Verdict.BETTER]
        )
    )
    def judge(self, verdict: Verdict) -> None:
        self.world.verdict = Judgement(verdict, "as it is judged")

    @rule(breach=st.booleans(), traffic=st.booleans())
    def measure(self, breach: bool, traffic: bool) -> None:
        self.world.breach = "50 % errors" if breach else ""
        self.world.traffic = traffic

    # ── what must hold ───────────────────────────────────────────────────────────────────────────

    @invariant()
    def an_end_is_clean(self) -> None:
        if not hasattr(self, "kept") or not self.kept.ended:
            return
        assert self.kept.outcome in set(Outcome) - {Outcome.RUNNING}
        if self.kept.outcome is Outcome.PROMOTED:
            assert self.world.new.carried

    def heal(self) -> None:
        """From here on the world is fair: what is started comes up, and all is well."""
        self.world.verdict, self.world.breach, self.world.traffic = GOOD, "", True

    def teardown(self) -> None:
        if not hasattr(self, "kept"):
            return
        self.heal()
        for _ in range(400):
            for release in (self.world.old, self.world.new):
                release.up, release.coming = release.up + release.coming, 0
            self.world.turn(5.0)
            self.tick()
            if self.kept.phase is Phase.PAUSED:
                self.say(Command.RESUME)
            elif self.kept.phase is Phase.CANARY and self.course.stops[self.kept.stop].hold:
                self.say(Command.PROMOTE)
            if self.kept.ended:
                break
        assert self.kept.ended, f"no end: {self.kept}, {self.world.seen()}"
        self.an_end_is_clean()
        old, new = self.world.old, self.world.new
        if self.kept.outcome is Outcome.PROMOTED:
            assert (old.wanted, new.wanted) == (0, self.course.replicas) or self.kept.forced
            assert self.world.route.only == NEW
        elif self.kept.staged:
            assert (old.wanted, new.wanted) == (self.course.full, 0)
            assert self.world.route.only == OLD
        assert step(self.course, self.kept, self.world.seen(), self.world.now).effects == ()


Upgrades.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestUpgrades: Any = Upgrades.TestCase
