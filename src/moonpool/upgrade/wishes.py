"""What each state of an upgrade wants of the world, and what is to be done for it. Pure.

Instances come before the traffic that they are to carry, and traffic goes before the instances that carried
it: a release is asked for none only after nothing has reached it any more.
"""

import msgspec

from moonpool.contracts.routing import FULL
from moonpool.contracts.upgrades import Phase
from moonpool.upgrade.gates import Seen, capacity_share
from moonpool.upgrade.state import State
from moonpool.upgrade.strategies import Course, Stop

VERIFY = 5.0
"""Seconds after which no report from any gateway counts as no traffic: they report every second."""
VERIFY_MOST = 60.0
"""Seconds that a gateway which does not follow is waited for. It fails over when the release is gone."""


class Ensure(msgspec.Struct, frozen=True):
    """So many instances of the release should run; 0: none, and nothing of it should be left."""

    release: str
    replicas: int


class Route(msgspec.Struct, frozen=True):
    """`weight` (basis points) to the new release, `mirror` copies to it. `only`: the release that is alone
    in the document then; "": both are listed. `killed`: the new one gets nothing by any rule."""

    weight: int
    mirror: int = 0
    only: str = ""
    killed: bool = False


Effect = Ensure | Route


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a state wants of the world. None: as it is."""

    new: int | None = None
    old: int | None = None
    route: Route | None = None


def wish(course: Course, state: State, seen: Seen) -> Wish:
    """What `state` wants of the world, as long as the world bears it (capacity is looked at in `effects`)."""
    match state.acting:
        case Phase.STAGE:
            return Wish(new=course.stage, old=course.full, route=Route(0))
        case Phase.SHADOW:
            assert course.shadow is not None
            return Wish(new=course.stage, old=course.full, route=Route(0, course.shadow.share))
        case Phase.CANARY:
            stop: Stop = course.stops[state.stop]
            return Wish(new=stop.new, old=stop.old, route=Route(stop.weight))
        case Phase.PROMOTE:
            return Wish(new=course.replicas, old=course.last_old, route=Route(FULL))
        case Phase.DRAIN:
            quiet = _may_stop(seen.only == course.new or not course.routed, seen.old_quiet, seen)
            return Wish(
                new=course.replicas,
                old=0 if quiet else None,
                route=Route(FULL, only=course.new),
            )
        case Phase.OBSERVE:
            return Wish(new=course.replicas, old=0, route=Route(FULL, only=course.new))
        case Phase.ROLLING_BACK | Phase.WITHDRAWING if state.staged:
            off = seen.weight == 0 and seen.mirror == 0 and (seen.off or not course.routed)
            quiet = _may_stop(off, seen.new_quiet, seen) and seen.old.ready > 0
            # Once it is gone the document is a plain one again.
            route = Route(0, only=course.old) if seen.new.gone else Route(0, killed=True)
            return Wish(new=0 if quiet or seen.new.gone else None, old=course.full, route=route)
    return Wish()


def _may_stop(off: bool, quiet: bool | None, seen: Seen) -> bool:
    """A release is stopped only when no rule leads to it and none of the gateways has sent it anything
    since; when none reports (None), after they had the time to hear of the rules."""
    if not off:
        return False
    return quiet or seen.routed_for >= (VERIFY if quiet is None else VERIFY_MOST)


def effects(course: Course, state: State, seen: Seen) -> tuple[Effect, ...]:
    """What differs. Instances before traffic where they are to carry it; traffic before instances where
    they are to go: a release that goes is asked for 0 only after `wish` has seen it quiet."""
    wanted = wish(course, state, seen)
    found: list[Effect] = []
    if wanted.new and seen.new.wanted != wanted.new:
        found.append(Ensure(course.new, wanted.new))
    if wanted.old and seen.old.wanted != wanted.old and _enough(course, state, wanted.old, seen):
        found.append(Ensure(course.old, wanted.old))
    if wanted.route is not None and course.routed:
        route = _bearable(course, state, wanted.route, seen)
        if not seen.is_routed(route.weight, route.mirror, route.only, route.killed):
            found.append(route)
    for release, number, it in ((course.new, wanted.new, seen.new), (course.old, wanted.old, seen.old)):
        if number == 0 and it.wanted != 0:
            found.append(Ensure(release, 0))
    return tuple(found)


def _enough(course: Course, state: State, old: int, seen: Seen) -> bool:
    """Whether the old release may shrink to `old`: the new one must have taken over that part."""
    if old >= seen.old.wanted or not course.routed:
        return old >= seen.old.wanted or seen.new.ready + old >= course.full
    return seen.old.ready == 0 or FULL - seen.weight <= FULL * old // course.full


def _bearable(course: Course, state: State, wanted: Route, seen: Seen) -> Route:
    back = state.acting in (Phase.ROLLING_BACK, Phase.WITHDRAWING)
    weight = capacity_share(
        wanted.weight,
        new=seen.new.ready,
        old=seen.old.ready,
        replicas=course.replicas,
        full=course.full,
        now=seen.weight,
        back=back,
    )
    only = wanted.only
    if only == course.new and seen.new.ready == 0 and seen.old.ready > 0:
        only = ""
    if only == course.old and seen.old.ready == 0:
        only = ""
    killed = wanted.killed and weight == 0 and seen.old.ready > 0
    if weight not in (0, FULL):
        only = ""
    return Route(weight, wanted.mirror if seen.new.ready else 0, only, killed)
