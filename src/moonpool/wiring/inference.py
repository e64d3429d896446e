"""The way to the models, for whoever asks them: the gateway for its clients, chat for conversations.

One piece, so that a call from service to service passes what a client's request passes below the edge.
"""

from pathlib import Path

from msgspec import structs

from moonpool.adapters.journal.local import LocalJournal
from moonpool.balancing.inference import InferenceBalancer
from moonpool.contracts.manifest import BalancerKind, Manifest
from moonpool.contracts.resilience import ModelTimeouts
from moonpool.contracts.usage import TOPIC as USAGE
from moonpool.core.component import Component
from moonpool.core.handler import Filter, Handler
from moonpool.middleware.inference import InferenceUpstream
from moonpool.middleware.metering import Metering
from moonpool.middleware.resolution import Resolution
from moonpool.wiring.clients import HttpCatalogueClient
from moonpool.wiring.following import CatalogueFollower
from moonpool.wiring.infrastructure import Infrastructure
from moonpool.wiring.money import open_money
from moonpool.wiring.settings import ModuleSettings


class InferencePath:
    """`upstream` ends a chain; `filters` stand around it; `components` run for as long as both."""

    def __init__(self, settings: ModuleSettings, infrastructure: Infrastructure) -> None:
        clock, log, pools = infrastructure.clock, infrastructure.log, infrastructure.pools
        resilience = infrastructure.resilience
        self.journal = LocalJournal(
            infrastructure.data / "spool", USAGE, settings.instance, infrastructure.events, log
        )
        self.resolution = Resolution(resilience.models)
        self.money, balances = open_money(settings, infrastructure)
        self.metering = Metering(self.journal)
        balancer = InferenceBalancer(clock, infrastructure.random)
        pools.on_gone(lambda endpoint: balancer.forget(endpoint.instance))
        self.upstream: Handler = InferenceUpstream(
            balancer=balancer,
            attempts=resilience.attempts,
            signer=infrastructure.signer,
            migration=resilience.migration,
            first_token=resilience.first_token,
            restarts=resilience.restarts,
        )
        self.filters: list[Filter] = [
            infrastructure.router,
            self.resolution,
            self.money,
            self.metering,
            resilience.failover,
            resilience.hedge,
            resilience.retry,
        ]
        snapshot = Path(settings.topology).parent / f"catalogue-{settings.name}.json"
        client = HttpCatalogueClient(infrastructure.caller)
        follower = CatalogueFollower(client, resilience.models, snapshot, log)
        self.components: list[Component] = [self.journal, follower, balances]


def patient(manifest: Manifest, timeouts: ModelTimeouts) -> Manifest:
    """`manifest` with the operator's times for models in place of its own."""
    changed = {
        name: value
        for name, value in {
            "connect": timeouts.connect,
            "between_bytes": timeouts.between_tokens,
            "first_byte": timeouts.first_token,
            "whole": timeouts.whole,
            "total": timeouts.total,
        }.items()
        if value is not None
    }
    if not changed:
        return manifest
    routes = tuple(
        structs.replace(route, timeouts=structs.replace(route.timeouts, **changed))
        if route.balancer is BalancerKind.INFERENCE
        else route
        for route in manifest.routes
    )
    return structs.replace(manifest, routes=routes)
