"""The upgrade layer in the gateway: which release a request belongs to, by whose rules, and what is told."""

from collections.abc import Callable, Mapping

from moonpool.balancing.tiers import Tier
from moonpool.contracts.manifest import Manifest, Route
from moonpool.contracts.usage import TokenPrice
from moonpool.core.component import Component
from moonpool.core.context import Attempt, Context
from moonpool.core.errors import Unavailable
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.gateway.app import Upstream
from moonpool.middleware.release_stats import charged
from moonpool.upgrade.mirror import Mirroring
from moonpool.upgrade.routing_filter import ReleaseRoutes, VersionRouter
from moonpool.wiring.infrastructure import Infrastructure
from moonpool.wiring.release_manifests import Key
from moonpool.wiring.release_reports import open_release_stats
from moonpool.wiring.routing import RoutingFollower
from moonpool.wiring.settings import ModuleSettings


class Releasing:
    """`build(service, route)` makes the part of a route's chain that is below the router."""

    def __init__(
        self,
        settings: ModuleSettings,
        infrastructure: Infrastructure,
        upstream: Upstream,
        build: Callable[[str, Route], Handler],
    ) -> None:
        self._table = infrastructure.resilience.table
        self._upstream = upstream
        self._ends: dict[tuple[str, Route], Handler] = {}
        self.stats = open_release_stats(settings, infrastructure)
        self.routes = ReleaseRoutes(build)
        self.router = VersionRouter(infrastructure.random.random, self.routes, self.stats.started)
        self.stats.capped = self.router.take_capped
        self.stats.price = self._price
        self._pools = infrastructure.pools
        self.mirror = Mirroring(self.router, self._send_copy, self.stats.ended, infrastructure.log)
        follower = RoutingFollower(self.router, infrastructure.documents, infrastructure.pools)
        self.components: list[Component] = [follower, self.stats, self.mirror]

    def _price(self, ctx: Context, answered: Attempt) -> TokenPrice | None:
        """What the tokens of an answer cost: by the word of the release that gave it, else by its alias."""
        return self._pools.price(answered.endpoint, ctx.model) or charged(ctx, answered)

    def update(self, manifests: Mapping[Key, Manifest], *, anew: bool = False) -> None:
        """All manifests that are others than this package's own. `anew`: chains are built again for all."""
        if anew:
            self.routes.update({})
            self._ends = {}
        self.routes.update(manifests)

    async def _send_copy(self, ctx: Context, request: Request) -> Response:
        """One attempt at the release in the shadow, or none."""
        own = [tier for tier in self._table.tiers(ctx)[:1] if _is_of(tier, ctx.release_wanted)]
        if not own:
            raise Unavailable(f"{ctx.service}@{ctx.release_wanted} has no instance")
        ctx.tier = own[0]
        end = self._ends.get((ctx.service, ctx.route))
        if end is None:
            end = self._ends[ctx.service, ctx.route] = self._upstream(ctx.service, ctx.route)
        return await end(ctx, request)


def _is_of(tier: Tier, release: str) -> bool:
    return all(candidate.endpoint.release == release for candidate in tier.candidates)
