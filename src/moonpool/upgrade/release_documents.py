"""The documents of releases in the config server: one a module, with what was added of it. Pure.

A release never changes: the documents' versions tell when it came and when it went. What of it should run is
not said here (docs/adr/0019).
"""

from collections.abc import Callable, Collection, Iterator

import msgspec

from moonpool.contracts.documents.place import parse_path
from moonpool.contracts.documents.sparse import sparse
from moonpool.contracts.releases import (
    FIRST,
    MODULES,
    ListedRelease,
    Release,
    ReleaseList,
    ServiceReleases,
    sealed,
)
from moonpool.contracts.routing import Routing
from moonpool.ports.config import Kind, Others, Path, Problem
from moonpool.upgrade.documents import RELEASES_PREFIX as PREFIX
from moonpool.upgrade.documents import document_name as routing_name
from moonpool.upgrade.release import faults_of

SUPERVISOR = "supervisor"
"""Writes the first document of a module whose releases were there before it."""
Missing = Callable[[Release], str]
"""What a release would run from and is not there any more, in words; "" when nothing is missing."""


def document_name(service: str) -> str:
    return f"{PREFIX}{service}"


def entry(release: Release) -> object:
    """A release as it stands in the document, sealed."""
    return sparse(sealed(release))


def first_document(service: str, known: ReleaseList, used: Collection[str]) -> ServiceReleases:
    """Of a module whose releases were there before documents of them.

    Rules have become stricter since. What is `used` and could not be added now is left out: it stays until it
    has ended, and is in nobody's way. What is not used and could not be added has to be removed first.
    """
    there = (sealed(one.release) for one in known.releases if one.release.service == service)
    kept = {each.label: each for each in there if each.label not in used or not faults_of(each)}
    return ServiceReleases(service=service, releases=kept)


def listed(document: ServiceReleases) -> ReleaseList:
    """Oldest first."""
    releases = sorted(document.releases.values(), key=lambda release: release.created)
    return ReleaseList(tuple(ListedRelease(release=each, since=each.created) for each in releases))


def roles(routing: Routing) -> dict[str, str]:
    """What each release is for the routing that can be sent requests by it, in words."""
    found = {share.release: "a share of the traffic" for share in routing.shares if share.weight}
    if routing.mirror is not None:
        found[routing.mirror.release] = "the mirrored traffic"
    if routing.cookie is not None:
        found |= dict.fromkeys(routing.cookie.releases, "the callers with a cookie")
    found |= {cohort.release: f"the cohort {cohort.name}" for cohort in routing.cohorts}
    if routing.pins is not None:
        found |= dict.fromkeys(routing.pins.conversations.values(), "pinned conversations")
    return {**found, routing.default: "the service's traffic"}


def releases_kind(missing: Missing = lambda release: "") -> Kind[ServiceReleases]:
    """`missing` is asked about what is added by the config server only."""

    def change(
        name: str, new: ServiceReleases, old: ServiceReleases | None, others: Others
    ) -> Iterator[Problem]:
        before = {} if old is None else old.releases
        for label, release in new.releases.items():
            if label not in before:
                yield from _added(release, missing)
            elif release != before[label]:
                yield _problem(
                    label,
                    f"{release.name} is another release already: releases do not change",
                    "Choose a new label, or remove the old release first.",
                )
        yield from _removed(new, before.keys() - new.releases.keys(), others)

    return Kind(
        name=f"{PREFIX}*",
        shape=ServiceReleases,
        summary="What releases of a module there are beside the first one.",
        check=_check,
        change=change,
        writers=(SUPERVISOR,),
        local=True,
    )


def _check(name: str, document: ServiceReleases) -> Iterator[Problem]:
    service = document.service
    if service not in MODULES:
        yield Problem(("service",), f"there is no module {service!r}", f"Known are {', '.join(MODULES)}.")
    elif name != document_name(service):
        yield Problem(("service",), f"the document {name} is of another service", "Write its own name.")
    for label, release in document.releases.items():
        if label == FIRST:
            yield _problem(label, f"{FIRST} is what runs when no release was added", "Choose another label.")
        elif (release.service, release.label) != (service, label):
            yield _problem(label, f"it is {release.name}", f"Write service {service} and label {label}.")


def _added(release: Release, missing: Missing) -> Iterator[Problem]:
    for fault in faults_of(release):
        yield _problem(release.label, fault.message, fault.hint, parse_path(fault.place))
    gone = missing(release)
    if gone:
        yield _problem(
            release.label,
            f"{release.name} cannot come back: {gone}",
            f"Add it anew: `moonpool release add {release.service}`.",
        )


def _removed(new: ServiceReleases, labels: set[str], others: Others) -> Iterator[Problem]:
    content = others(routing_name(new.service))
    if not labels or content is None:
        return
    try:
        needed = roles(msgspec.convert(content, Routing))
    except msgspec.ValidationError:  # of a newer package: the supervisor keeps what should run anyway
        return
    for label in sorted(labels & needed.keys()):
        yield _problem(
            label,
            f"{new.service}@{label} cannot go: the routing gives it {needed[label]}",
            f"Start an upgrade of {new.service} to another release, or finish or abort the one that runs.",
        )


def _problem(label: str, message: str, hint: str, place: Path = ()) -> Problem:
    return Problem(("releases", label, *place), message, hint)
