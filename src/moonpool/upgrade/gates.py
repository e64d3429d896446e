"""What an upgrade waits for, and what ends it: readiness, soak, sample, evidence, capacity. Pure.

`Seen` is the world as the manager last saw it; everything that decides takes it, and nothing else.
"""

from enum import StrEnum

import msgspec

from moonpool.contracts.routing import FULL
from moonpool.contracts.upgrades import HardLimits
from moonpool.upgrade.strategies import Course, needed


class Verdict(StrEnum):
    """Of new against old, so far."""

    NO_DATA = "no_data"
    UNDECIDED = "undecided"
    FINE = "fine"
    BETTER = "better"
    WORSE = "worse"
    INVALID = "invalid"
    """The split is not what it should be: whatever is measured may come from that."""


class Judgement(msgspec.Struct, frozen=True):
    kind: Verdict = Verdict.NO_DATA
    reason: str = ""

    @property
    def told(self) -> str:
        return self.reason or self.kind.value.replace("_", " ")


class ReleaseSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One release under the fleet. `wanted` is what the fleet was last asked for, `failure` why its
    processes cannot start, in their own words; `restarts` only grows."""

    wanted: int = 0
    ready: int = 0
    left: int = 0
    """Processes that have not ended, draining ones included."""
    restarts: int = 0
    failure: str = ""

    @property
    def gone(self) -> bool:
        return self.wanted == 0 and self.left == 0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """`weight` and `mirror` (basis points of the new release), `only` (the one release that the routing
    document names), `killed` (the new one is shut out, by somebody else) are what the document says;
    `applied` whether the gateways follow that one. `new_quiet` and `old_quiet`: nothing began there since;
    None when no gateway tells."""

    new: ReleaseSeen = ReleaseSeen()
    old: ReleaseSeen = ReleaseSeen()
    weight: int = 0
    mirror: int = 0
    only: str = ""
    off: bool = False
    """The document shuts the new release out, or does not name it."""
    killed: bool = False
    """Somebody else has shut it out: nobody but the manager of a rollback should."""
    applied: bool = True
    routed_for: float = 0.0
    """Seconds since the document last changed."""
    new_quiet: bool | None = None
    old_quiet: bool | None = None
    sample: int = 0
    """Requests that the new release has ended in this phase or stop."""
    verdict: Judgement = Judgement()
    breach: str = ""
    """The hard limit that is broken, in words; "" for none."""
    faults: tuple[str, ...] = ()
    """Of the preflight."""

    def is_routed(self, weight: int, mirror: int, only: str, killed: bool) -> bool:
        """Whether the document says that."""
        return (
            self.weight == weight
            and self.mirror == mirror
            and self.only == only
            and (self.off or not killed)
            and (killed or bool(only) or not self.off)
        )


def fault_of_new(limits: HardLimits, seen: Seen, restarts_before: int) -> str:
    """Why the new release's processes are no good; "" when they are."""
    if seen.new.failure:
        return f"it cannot start: {seen.new.failure}"
    ended = seen.new.restarts - restarts_before
    if ended >= limits.restarts:
        return f"crash loop: its processes have ended {ended} times"
    return ""


def lacks(weight: int, ready: int, course: Course) -> bool:
    """Whether too few new instances are ready for `weight`; a shadow or an empty share needs one."""
    return ready < needed(weight, course.replicas)


def steady(since: float | None, span: float, now: float) -> bool:
    """Whether something has held for `span` seconds. A clock that was set back starts no rush."""
    return since is not None and now - since >= span


def capacity_share(wanted: int, *, new: int, old: int, replicas: int, full: int, now: int, back: bool) -> int:
    """The weight (basis points) of the new release that the ready instances bear, nearest to `wanted`.

    `new` of `replicas` and `old` of `full` instances are ready. On the way back half of the old ones are
    enough to take everything: a faulty release is worse than a crowded one. With no instance of either,
    what is (`now`) stays.
    """
    if new == 0 and old == 0:
        return now
    if new == 0:
        return 0
    if old == 0:
        return FULL
    if back and wanted == 0 and 2 * old >= full:
        return 0
    most = min(FULL, FULL * new // replicas)
    least = max(0, FULL - FULL * old // full)
    if least > most:  # both are short: each gets its part
        return FULL * new * full // (new * full + old * replicas)
    return min(max(wanted, least), most)
