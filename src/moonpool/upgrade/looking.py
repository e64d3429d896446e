"""From what fleet, documents and gateways tell to what the machine decides by. Pure."""

from collections.abc import Iterable

from moonpool.contracts.releases import FIRST, ReleaseList
from moonpool.contracts.routing import Routing
from moonpool.contracts.upgrades import Phase
from moonpool.ports.spawner import Deployment, Instance
from moonpool.upgrade.gates import Judgement, ReleaseSeen, Seen, Verdict
from moonpool.upgrade.reports import Reports, judgement
from moonpool.upgrade.state import State
from moonpool.upgrade.strategies import Course
from moonpool.upgrade.surroundings import Followed
from moonpool.upgrade.traffic import read_route

REFUSES = 1.0
"""Seconds that a process which has ended is not tried again, and by then is told to refuse its start: the
first back-off of a crash is a twentieth of that."""


def look(
    course: Course,
    state: State,
    deployments: Iterable[Deployment],
    followed: Followed,
    reports: Reports,
    faults: tuple[str, ...],
    *,
    now: float,
    monotonic: float,
) -> Seen:
    found = {one.release: one for one in deployments if one.service == course.service}
    route = read_route(followed.routing, course)
    routed_for = max(0.0, now - followed.at)
    old_quiet, new_quiet = reports.quiet(followed.version, monotonic)
    if not course.routed:  # who drains its listening socket gets nothing, whatever the documents say
        old_quiet = new_quiet = True
    return Seen(
        new=release_seen(found.get(course.new), now),
        old=release_seen(found.get(course.old), now),
        weight=route.weight,
        mirror=route.mirror,
        only=route.only,
        off=route.killed or route.only == course.old,
        killed=route.killed and followed.routing is not None and not _ours(state),
        applied=reports.applied(followed.version, routed_for, monotonic),
        routed_for=routed_for,
        old_quiet=old_quiet,
        new_quiet=new_quiet,
        sample=reports.gathered.sample if reports.gathered.stratum == state.stratum else 0,
        verdict=_verdict(course, state, reports),
        breach=reports.breach(course.limits, monotonic),
        faults=faults,
    )


def _ours(state: State) -> bool:
    """Whether it is the manager that shuts the new release out: on the way back, and just after it."""
    return state.acting in (Phase.ROLLING_BACK, Phase.WITHDRAWING) or state.forced


def _verdict(course: Course, state: State, reports: Reports) -> Judgement:
    stop = course.stops[state.stop] if state.acting is Phase.CANARY else None
    if stop is not None and not stop.analysed:
        return Judgement(Verdict.FINE, "not compared: the plan says so")
    shadow = course.shadow if state.acting is Phase.SHADOW else None
    minimum = stop.sample if stop is not None else shadow.sample if shadow is not None else 0
    return judgement(reports.verdict(minimum))


def release_seen(deployment: Deployment | None, now: float) -> ReleaseSeen:
    if deployment is None:
        return ReleaseSeen()
    there = [one for one in deployment.instances if one.state != "stopped"]
    return ReleaseSeen(
        wanted=deployment.replicas,
        ready=deployment.ready,
        left=len(there),
        restarts=sum(one.restarts for one in there),
        failure=_refusal(there, now),
    )


def _refusal(instances: list[Instance], now: float) -> str:
    """Why none of them can start: they have ended at their first try, and nobody tries again. One that still
    drains from an earlier time says nothing about that."""
    instances = [one for one in instances if one.state != "draining"]
    refused = [
        one
        for one in instances
        if one.state == "crashed" and one.restarts == 0 and now - one.since >= REFUSES
    ]
    return refused[0].reason if refused and len(refused) == len(instances) else ""


def current(service: str, deployments: Iterable[Deployment], routing: Routing | None) -> tuple[str, int]:
    """The release that serves now, and how many instances of it should run."""
    running = {one.release: one.replicas for one in deployments if one.service == service and one.replicas}
    if routing is not None:
        return routing.default, max(1, running.get(routing.default, 1))
    if not running:
        return FIRST, 1
    label = max(running, key=lambda one: running[one])
    return label, running[label]


def preflight(course: Course, releases: ReleaseList, deployments: Iterable[Deployment]) -> tuple[str, ...]:
    """What speaks against beginning, each with the way out."""
    faults = []
    known = [one.release.label for one in releases.releases if one.release.service == course.service]
    found = {one.release: one for one in deployments if one.service == course.service}
    name = f"{course.service}@{course.new}"
    if course.new not in known and course.new != FIRST:
        there = ", ".join(dict.fromkeys([FIRST, *known]))
        faults.append(f"there is no release {name}: known are {there}; `moonpool release add` makes one")
    if course.new == course.old:
        faults.append(f"{name} is what runs already: name another release")
    old = found.get(course.old)
    if old is None or not old.ready:
        faults.append(f"nothing of {course.service}@{course.old} is ready to go back to: mend that first")
    return tuple(faults)
