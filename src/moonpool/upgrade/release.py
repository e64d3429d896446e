"""The rules of releases and of their list: what may be added, changed, removed and collected. Pure.

Functions take a list and return a list; the config server's compare-and-set makes it safe among several who
write.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from moonpool.contracts.releases import (
    GATEWAY,
    LABEL,
    MODULES,
    RUNNING,
    CommandSource,
    EndpointSource,
    EnvironmentSource,
    ImageSource,
    ListedRelease,
    Overrides,
    PackageSource,
    Release,
    ReleaseList,
    ReleaseState,
    digest_of,
    prices_of,
)
from moonpool.core.errors import Conflict, NotFound
from moonpool.upgrade.faults import Fault, refuse
from moonpool.upgrade.release_secrets import secrets_in

EXTERNAL = "external"
"""What an endpoint of the catalogue that is no release is called in metrics and answers."""
INFERENCE = "inference"
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

S = ReleaseState
NEXT: Mapping[ReleaseState, frozenset[ReleaseState]] = {
    S.REGISTERED: frozenset({S.STARTING}),
    S.STARTING: frozenset({S.SERVING, S.STANDBY, S.FAILED, S.DRAINING, S.STOPPED}),
    S.SERVING: frozenset({S.STANDBY, S.DRAINING, S.FAILED}),
    S.STANDBY: frozenset({S.SERVING, S.DRAINING, S.FAILED, S.STOPPED}),
    S.DRAINING: frozenset({S.STOPPED, S.FAILED, S.STANDBY, S.SERVING}),
    S.STOPPED: frozenset({S.STARTING}),
    S.FAILED: frozenset({S.STARTING, S.DRAINING, S.STOPPED}),
}
"""The arrows of contracts/releases.py. A release that drains may be called back: an abort in that moment."""


def faults_of(release: Release) -> tuple[Fault, ...]:
    """What is wrong with a release by itself; its types were checked when it was decoded."""
    found: list[Fault] = []
    if release.service not in MODULES:
        found.append(
            Fault("service", f"there is no module {release.service!r}", f"Known are {', '.join(MODULES)}.")
        )
    if re.fullmatch(LABEL, release.label) is None:
        hint = "Labels are lower-case letters and digits, with dots, dashes and underscores between, like v2."
        found.append(Fault("label", f"{release.label!r} is no label", hint))
    elif release.label == EXTERNAL:
        found.append(Fault("label", f"{EXTERNAL!r} names the endpoints of the catalogue", "Choose another."))
    if release.digest and release.digest != digest_of(release):
        found.append(Fault("digest", "the digest is not that of this release", "Leave it out."))
    found += _faults_of_source(release)
    found += _faults_of_overrides(release)
    found += _fault_of_prices(release)
    found += secrets_in(release)
    return tuple(found)


def _faults_of_source(release: Release) -> list[Fault]:
    source, found = release.source, []
    match source:
        case EndpointSource():
            if release.service != INFERENCE:
                found.append(
                    Fault("source", f"{release.service} cannot be an endpoint", "Only inference can be one.")
                )
            if source.api_key_env and _ENV_NAME.fullmatch(source.api_key_env) is None:
                hint = "Name the environment variable that holds the key, never the key."
                found.append(Fault("source.api_key_env", "is no name of an environment variable", hint))
            if release.overrides != Overrides():
                found.append(Fault("overrides", "an endpoint has no settings of ours", "Leave them out."))
        case ImageSource():
            if release.service == GATEWAY:
                hint = "Use this package, a virtual environment or a command."
                found.append(Fault("source", "an image cannot take over the listening socket", hint))
        case PackageSource():
            if release.manifest is not None:
                hint = "Leave it out: the package has its own."
                found.append(Fault("manifest", "a release of this package cannot declare another one", hint))
        case EnvironmentSource() | CommandSource():
            pass
    if release.manifest is not None and release.manifest.service != release.service:
        found.append(Fault("manifest.service", f"it is the manifest of {release.manifest.service!r}"))
    return found


def _fault_of_prices(release: Release) -> list[Fault]:
    try:
        prices_of(release)
    except ValueError as error:
        where = "source.price" if isinstance(release.source, EndpointSource) else "overrides.models"
        hint = "It is for a million tokens, in the currency, like prompt: 0.27."
        return [Fault(where, f"the price cannot be: {error}", hint)]
    return []


def _faults_of_overrides(release: Release) -> list[Fault]:
    overrides, found = release.overrides, []
    if overrides.engine is not None and release.service != INFERENCE:
        found.append(Fault("overrides.engine", f"{release.service} has no engine", "Leave it out."))
    if overrides.models and release.service not in (INFERENCE, "model"):
        hint = "Models are settings of inference (what it loads) and of model (what there is)."
        found.append(Fault("overrides.models", f"{release.service} serves no models", hint))
    if overrides.limits and release.service != GATEWAY:
        found.append(Fault("overrides.limits", "limits are the gateway's", "Add a release of gateway."))
    return found


def find(releases: ReleaseList, service: str, label: str) -> ListedRelease:
    """Raises NotFound with those there are."""
    for listed in releases.releases:
        if listed.release.service == service and listed.release.label == label:
            return listed
    labels = labels_of(releases, service)
    there = f"There are {', '.join(labels)}." if labels else f"{service} has no releases but what runs now."
    raise NotFound(
        f"there is no release {service}@{label}",
        code="unknown_release",
        hint=f"{there} `moonpool release add` makes one.",
    )


def labels_of(releases: ReleaseList, service: str) -> tuple[str, ...]:
    """Oldest first."""
    return tuple(listed.release.label for listed in releases.releases if listed.release.service == service)


def add(releases: ReleaseList, release: Release, now: float) -> ReleaseList:
    """The list with `release` (sealed here); the same list when exactly that is in it already.

    Raises Unprocessable for a release that cannot be, Conflict when its label means something else.
    """
    refuse(f"release {release.name}", faults_of(release))
    release = replace(release, digest=digest_of(release))
    for listed in releases.releases:
        known = listed.release
        if (known.service, known.label) == (release.service, release.label):
            if digest_of(known) == release.digest:
                return releases
            raise Conflict(
                f"{release.name} is another release already: releases do not change",
                code="release_exists",
                hint="Choose a new label, or remove the old release first.",
            )
    return ReleaseList((*releases.releases, ListedRelease(release=release, since=now)))


def change(
    releases: ReleaseList, service: str, label: str, state: ReleaseState, now: float, reason: str = ""
) -> ReleaseList:
    """The list with that release in another state; the same list when it is in it for that reason already.

    Raises NotFound, and Conflict for a state that does not follow from the one it is in.
    """
    listed = find(releases, service, label)
    if listed.state is state:
        if listed.reason == reason:
            return releases
        return _with(releases, listed, replace(listed, reason=reason))
    if state not in NEXT[listed.state]:
        raise Conflict(
            f"{service}@{label} is {listed.state.value} and cannot become {state.value}",
            code="release_state",
            hint=f"From there it can become {', '.join(sorted(s.value for s in NEXT[listed.state]))}.",
        )
    return _with(releases, listed, replace(listed, state=state, since=now, reason=reason))


def _with(releases: ReleaseList, old: ListedRelease, new: ListedRelease) -> ReleaseList:
    return ReleaseList(tuple(new if listed is old else listed for listed in releases.releases))


def remove(releases: ReleaseList, service: str, label: str, in_use: Collection[str] = ()) -> ReleaseList:
    """`in_use` are the labels that a routing or an upgrade of the service names.

    Raises NotFound, Conflict.
    """
    listed = find(releases, service, label)
    if listed.state in RUNNING:
        raise Conflict(
            f"{service}@{label} is {listed.state.value}", code="release_in_use", hint="Stop it first."
        )
    if label in in_use:
        raise Conflict(
            f"{service}@{label} is named by the service's routing or upgrade",
            code="release_in_use",
            hint="Finish or abort the upgrade first.",
        )
    return ReleaseList(tuple(other for other in releases.releases if other is not listed))


@dataclass(frozen=True)
class Retention:
    """How many releases a service keeps that neither run nor are named, and for how long they stay anyway
    (seconds): whoever adds one today may want to start it tomorrow."""

    keep: int = 5
    age: float = 7 * 24 * 3600.0


def collectable(
    releases: ReleaseList, in_use: Callable[[str], Collection[str]], now: float, retention: Retention
) -> tuple[Release, ...]:
    """What the policy lets go, oldest first. `in_use` gives a service's labels that are named somewhere."""
    idle: dict[str, list[ListedRelease]] = {}
    for listed in releases.releases:
        service = listed.release.service
        if listed.state not in RUNNING and listed.release.label not in in_use(service):
            idle.setdefault(service, []).append(listed)
    gone = []
    for candidates in idle.values():
        candidates.sort(key=lambda listed: listed.since)
        surplus = candidates[: max(len(candidates) - retention.keep, 0)]
        gone += [listed for listed in surplus if now - listed.since >= retention.age]
    gone.sort(key=lambda listed: listed.since)
    return tuple(listed.release for listed in gone)
