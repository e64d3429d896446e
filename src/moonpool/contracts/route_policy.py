"""What an operator wants otherwise for a route than its manifest has it: `routes` of the configuration.

A service says how it is to be called, and its manifest travels with its release; what stands here is laid
over it, in every gateway, for every release. Access may only be tightened, and nothing is given to a route
that its service does not have for it. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import structs

from moonpool.contracts.auth import SCOPES
from moonpool.contracts.manifest import Access, BodyKind, Cached, Degraded, Letters, Manifest, Route
from moonpool.contracts.resilience import NotNegative, Positive, PositiveInt
from moonpool.ports.config import Path, Problem

BUFFERED_MOST = 64 * 1024 * 1024
"""Bytes of a body that lies in a gateway's memory as a whole."""


class Tightened(StrEnum):
    KEY = "key"
    ADMIN = "admin"


class RouteTimeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds, as manifest.Timeouts; None: as the manifest, or for models `resilience.timeouts`, has it."""

    total: Positive | None = None
    connect: Positive | None = None
    first_byte: Positive | None = None
    between_bytes: Positive | None = None
    whole: Positive | None = None


class RouteCache(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of routes to models, as manifest.Cached; None: as the manifest has it."""

    enabled: bool = True
    every: bool | None = None
    fresh: NotNegative | None = None
    while_revalidating: NotNegative | None = None
    if_error: NotNegative | None = None


class RoutePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one route; None: as its service's manifest has it."""

    enabled: bool = True
    """False: refused with 503, and `notice`."""
    notice: Annotated[str, msgspec.Meta(max_length=500)] = ""
    """What callers are told while it is not."""
    access: Tightened | None = None
    scope: str | None = None
    timeouts: RouteTimeouts = RouteTimeouts()
    body_limit: PositiveInt | None = None
    attempts: PositiveInt | None = None
    """Within a tier, the first one included; None: `resilience.retry.attempts`."""
    priority: Annotated[int, msgspec.Meta(ge=0, le=2)] | None = None
    cache: RouteCache = RouteCache()
    fallback: bool = True
    """Whether anything stands in for the real answer when there is none; otherwise it is 503."""
    degraded: Degraded | None = None
    letters: Letters | None = None


def with_policies(manifest: Manifest, policies: Mapping[str, RoutePolicy]) -> Manifest:
    """`manifest` with what operators want of its routes; itself when that is nothing."""
    if not policies:
        return manifest
    wanted = {_shape(name): policy for name, policy in policies.items()}
    routes = tuple(
        route if (policy := wanted.get(_shape(name_of(route)))) is None else governed(route, policy)
        for route in manifest.routes
    )
    return manifest if routes == manifest.routes else structs.replace(manifest, routes=routes)


def governed(route: Route, policy: RoutePolicy) -> Route:
    """`route` as `policy` wants it. What `faults` would refuse (a document may be of a package with other
    manifests) is left as the manifest has it."""
    given = {
        name: value
        for name in ("body_limit", "attempts", "priority", "degraded", "letters")
        if (value := getattr(policy, name)) is not None
    }
    unfit = {problem.path[0] for problem in faults_of(route, policy)}
    if policy.access is not None:
        given["access"] = Access(policy.access)
    if policy.scope is not None:
        given["scope"] = policy.scope
    return structs.replace(
        route,
        **{name: value for name, value in given.items() if name not in unfit},
        timeouts=structs.replace(route.timeouts, **_given(policy.timeouts)),
        cached=route.cached if "cache" in unfit else _cached(route.cached, policy.cache),
        fallback=route.fallback and policy.fallback,
        enabled=policy.enabled,
        notice=policy.notice,
    )


def faults(
    policies: Mapping[str, RoutePolicy], manifests: Iterable[Manifest], closed: str
) -> Iterator[Problem]:
    """What does not fit to what services declare. `closed` is the service whose routes stay as they are: by
    them policies are taken back."""
    declared = {
        _shape(name_of(route)): (manifest.service, route)
        for manifest in manifests
        for route in manifest.routes
    }
    seen: dict[str, str] = {}
    for name, policy in policies.items():
        place: Path = ("routes", name)
        shape = _shape(name)
        found = declared.get(shape)
        if found is None:
            names = [name_of(route) for _, route in declared.values()]
            yield Problem(place, f"no service has the route {name[:200]}", _instead(name, names))
        elif shape in seen:
            yield Problem(place, f"it is the same route as {seen[shape]}", "Write it once.")
        elif found[0] == closed:
            hint = "By it the configuration is changed, and this would be changed back."
            yield Problem(place, "this route stays as it is", hint)
        else:
            for problem in faults_of(found[1], policy):
                yield problem._replace(path=(*place, *problem.path))
        seen.setdefault(shape, name)


def faults_of(route: Route, policy: RoutePolicy) -> Iterator[Problem]:
    """What `route` cannot have, by paths within the policy."""
    if policy.access is not None and _STRICT.index(policy.access) < _STRICT.index(route.access):
        hint = f"It is {route.access} by its service; leave `access` out."
        yield Problem(("access",), "access can only be tightened", hint)
    yield from _scope_faults(route, policy)
    if policy.body_limit is not None:
        if route.body is BodyKind.NONE:
            yield Problem(("body_limit",), "requests of this route have no body", "Leave it out.")
        elif route.body is BodyKind.BUFFERED and policy.body_limit > BUFFERED_MOST:
            hint = f"At most {BUFFERED_MOST}: a gateway holds it in its memory."
            yield Problem(("body_limit",), "a body that is not streamed cannot be that long", hint)
    if policy.cache != RouteCache() and route.cached is None:
        hint = "Only answers of models are kept; leave `cache` out."
        yield Problem(("cache",), "answers of this route are not cached", hint)
    if policy.letters is not None and _LETTERS.index(policy.letters) > _LETTERS.index(route.letters):
        hint = f"Its service has {route.letters}: what it may be sent again later is for it to say."
        yield Problem(("letters",), "dead letters can only be restricted", hint)


def name_of(route: Route) -> str:
    """As the configuration names it: `POST /v1/chat/completions`."""
    return f"{route.method} {route.path}"


_STRICT = (Access.PUBLIC, Access.KEY, Access.LOCAL, Access.ADMIN)
_LETTERS = (Letters.NO, Letters.ASKED, Letters.FAILED)


def _scope_faults(route: Route, policy: RoutePolicy) -> Iterator[Problem]:
    scope = policy.scope
    if scope is None or scope == route.scope:
        return
    if scope not in SCOPES:
        yield Problem(("scope",), f"there is no scope {scope[:100]!r}", f"Allowed: {', '.join(SCOPES)}.")
    elif route.scope:
        hint = f"It needs {route.scope} by its service; leave `scope` out."
        yield Problem(("scope",), "a scope that is needed already cannot be another one", hint)
    elif route.access is Access.PUBLIC and policy.access is None:
        hint = "Give `access: key` with it."
        yield Problem(("scope",), "nobody is asked for a key here, so none has a scope", hint)


def _instead(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    method, _, path = name.partition(" ")
    others = [each for each in names if _shape(each).partition(" ")[2] == _shape(name).partition(" ")[2]]
    if not path:
        others = [each for each in names if each.partition(" ")[2] == method]
    if others:
        return f"There is {', '.join(others)}."
    start = f"Did you mean {' or '.join(near)}? " if near else ""
    return f"{start}Write METHOD /path as /openapi.json has it; the gateway's own routes have no policy."


def _shape(name: str) -> str:
    """Without the names of parameters: a release may call them otherwise."""
    return "/".join("{}" if part.startswith("{") else part for part in name.split("/"))


def _given(settings: RouteTimeouts | RouteCache) -> dict[str, float]:
    return {
        name: value
        for name, value in structs.asdict(settings).items()
        if value is not None and name != "enabled"
    }


def _cached(cached: Cached | None, wanted: RouteCache) -> Cached | None:
    if cached is None or not wanted.enabled:
        return None
    return structs.replace(cached, **_given(wanted))
