"""The version router as a filter: from here on a request belongs to one release of its service.

It stands below authentication (buckets are of callers) and above everything that a release may do its own
way: its chain is the one that the assigned release's manifest makes, when that differs (`ReleaseRoutes`).
It has nothing to do with the answer, so it is no coroutine: it decides and returns what is below.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

from moonpool.balancing.endpoint import Endpoint
from moonpool.contracts.manifest import Manifest, Route
from moonpool.contracts.routing import CONVERSATION, Mirror, Routing
from moonpool.core.context import Context
from moonpool.core.deadline import Deadline
from moonpool.core.errors import NotFound
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.upgrade.buckets import Buckets
from moonpool.upgrade.router import Router

NAME = "router"
Ready = Mapping[str, int]
"""Ready instances by label."""


class ReleaseRoute(NamedTuple):
    """A route as one release declares it, with the chain below the router that follows from it."""

    route: Route
    handler: Handler


class ReleaseRoutes:
    """The routes of releases whose manifest is another one than that which the gateway's table was made
    of. `build(service, route)` makes the part of the chain below the router, as pipeline.build does."""

    def __init__(self, build: Callable[[str, Route], Handler]) -> None:
        self._build = build
        self._releases: dict[str, dict[str, dict[tuple[str, str], ReleaseRoute]]] = {}
        self._made: dict[tuple[str, str], Manifest] = {}

    def update(self, manifests: Mapping[tuple[str, str], Manifest]) -> None:
        """All such manifests, by service and label; chains of those that stay are kept."""
        releases: dict[str, dict[str, dict[tuple[str, str], ReleaseRoute]]] = {}
        for (service, label), manifest in manifests.items():
            if self._made.get((service, label)) == manifest:
                routes = self._releases[service][label]
            else:
                routes = {
                    (route.method, _shape(route.path)): ReleaseRoute(route, self._build(service, route))
                    for route in manifest.routes
                }
            releases.setdefault(service, {})[label] = routes
        self._releases, self._made = releases, dict(manifests)

    def find(self, service: str, label: str, route: Route) -> ReleaseRoute | None:
        """None: the release declares what the gateway's table has. Raises NotFound for what it does not
        have at all."""
        routes = self._releases.get(service, {}).get(label)
        if routes is None:
            return None
        found = routes.get((route.method, _shape(route.path)))
        if found is None:
            raise NotFound(
                f"{service}@{label} has no {route.method} {route.path}",
                code="unknown_url",
                hint="Another release of the service has it: an upgrade is under way.",
            )
        return found

    def __bool__(self) -> bool:
        return bool(self._releases)


class VersionRouter:
    """All services' routers. `chance` gives random floats in [0, 1); `started` is told every service and
    release that a request is sent to, for the evidence."""

    def __init__(
        self,
        chance: Callable[[], float],
        routes: ReleaseRoutes,
        started: Callable[[str, str], None] | None = None,
    ) -> None:
        self._chance = chance
        self._routes = routes
        self._started = started
        self._routers: dict[str, Router] = {}
        self._routings: dict[str, Routing] = {}
        self._ready: dict[str, Ready] = {}
        self._capped: set[str] = set()

    # ── what it follows ──────────────────────────────────────────────────────────────────────────────

    def follow(self, routings: Mapping[str, Routing]) -> None:
        """All routing documents, by service: from this call on they hold. Services without one are not
        routed: whatever runs answers."""
        changed = {
            service
            for service in {*routings, *self._routings}
            if routings.get(service) != self._routings.get(service)
        }
        self._routings = dict(routings)
        for service in changed:
            self._compile(service)

    def see(self, ready: Mapping[str, Ready]) -> None:
        """What is ready now, by service; a service that is not among them is not known about."""
        changed = {s for s in {*ready, *self._ready} if ready.get(s) != self._ready.get(s)}
        self._ready = {service: dict(counts) for service, counts in ready.items()}
        for service in changed:
            self._compile(service)

    def router(self, service: str) -> Router | None:
        return self._routers.get(service)

    def take_capped(self) -> frozenset[str]:
        """The services that were, since the last call, shared out otherwise than their document says, for
        want of ready instances: their split says nothing about whether requests get lost."""
        capped = frozenset(self._capped)
        self._capped = {service for service, router in self._routers.items() if router.effective.notes}
        return capped

    def _compile(self, service: str) -> None:
        routing = self._routings.get(service)
        if routing is None:
            self._routers.pop(service, None)
            return
        before = self._routers.get(service)
        keep = before is not None and before.routing.salt == routing.salt
        buckets = before.buckets if before is not None and keep else Buckets(routing.salt)
        router = Router(routing, self._ready.get(service), buckets, self._chance)
        self._routers[service] = router
        if router.effective.notes:
            self._capped.add(service)

    # ── on the way of a request ──────────────────────────────────────────────────────────────────────

    def applies(self, route: Route) -> bool:
        return not route.quiet

    def __call__(self, ctx: Context, request: Request, next: Handler) -> Awaitable[Response]:
        service = ctx.service
        router = self._routers.get(service)
        if router is None:
            return next(ctx, request)
        assignment = router.only
        if assignment is None:
            assignment = router.route(
                ctx.principal, request.peer, request.headers, ctx.parameters.get(CONVERSATION)
            )
            ctx.decide(NAME, assignment.release, assignment.reason)
        elif not router.plain:  # it is the only one because others are away: worth telling
            ctx.decide(NAME, assignment.release, assignment.reason)
        release = ctx.release_wanted = assignment.release
        if self._started is not None:
            self._started(service, release)
        if self._routes:
            own = self._routes.find(service, release, ctx.route)
            if own is not None:
                ctx.route = own.route
                ctx.deadline = Deadline(ctx.started + own.route.timeouts.total)
                return own.handler(ctx, request)
        return next(ctx, request)

    def shadow_of(self, service: str, release: str) -> Mirror | None:
        """The mirror that should get a copy of a request of `service` that `release` answers."""
        router = self._routers.get(service)
        return None if router is None else router.shadow_of(release)


def count_ready(endpoints: Iterable[Endpoint]) -> dict[str, int]:
    """Ready instances of a service by label."""
    return dict(Counter(endpoint.release for endpoint in endpoints if endpoint.ready))


def _shape(path: str) -> str:
    """`path` without its parameters' names: two releases may call them differently."""
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))
