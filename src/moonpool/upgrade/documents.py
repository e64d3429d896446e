"""The kinds of documents that the upgrade layer keeps in the config server."""

from collections.abc import Iterator

import msgspec

from moonpool.contracts.documents.place import parse_path
from moonpool.contracts.releases import FIRST, ServiceReleases
from moonpool.contracts.routing import Routing
from moonpool.ports.config import Kind, Others, Problem
from moonpool.upgrade.faults import Fault
from moonpool.upgrade.routing_rules import faults_of, faults_of_change, unknown_releases

PREFIX = "routing/"
RELEASES_PREFIX = "releases/"
"""Of the documents that say which releases there are (release_documents.py)."""
WRITER = "upgrade"
"""The module that writes routing documents on its own behalf."""


def document_name(service: str) -> str:
    return f"{PREFIX}{service}"


def _check(name: str, routing: Routing) -> Iterator[Problem]:
    if name.startswith(PREFIX) and name != document_name(routing.service):
        yield Problem(("service",), f"the document {name} is of another service", "Write its own name.")
    yield from map(_problem, faults_of(routing))


def _check_change(name: str, new: Routing, old: Routing | None, others: Others) -> Iterator[Problem]:
    if old is not None:
        yield from map(_problem, faults_of_change(old, new))
    yield from map(_problem, unknown_releases(new, old, _releases(new.service, others)))


def _releases(service: str, others: Others) -> list[str] | None:
    """The labels of what there is, oldest first; None when that cannot be read: a newer package wrote it."""
    content = others(f"{RELEASES_PREFIX}{service}")
    if content is None:
        return [FIRST]
    try:
        found = msgspec.convert(content, ServiceReleases).releases
    except msgspec.ValidationError:
        return None
    return [FIRST, *sorted(found, key=lambda label: found[label].created)]


def _problem(fault: Fault) -> Problem:
    return Problem(parse_path(fault.place), fault.message, fault.hint)


ROUTING: Kind[Routing] = Kind(
    name=f"{PREFIX}*",
    shape=Routing,
    summary="How a service's requests are shared among its releases.",
    check=_check,
    change=_check_change,
    writers=(WRITER,),
)
