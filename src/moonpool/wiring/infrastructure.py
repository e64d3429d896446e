"""What every module's process opens first: configuration, topology, event log, the client for calls."""

import random
from dataclasses import dataclass
from pathlib import Path

import structlog
from structlog.typing import FilteringBoundLogger

from moonpool.adapters.config.server import ServerConfig
from moonpool.adapters.discovery.file import FileDiscovery
from moonpool.balancing.api import ApiBalancer
from moonpool.balancing.pools import Pools
from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.manifest import Route
from moonpool.core.clock import SYSTEM_CLOCK, Clock
from moonpool.core.component import Component
from moonpool.core.handler import Handler
from moonpool.http.client import Client
from moonpool.middleware.call_tracing import CallTracing
from moonpool.middleware.signing import ContextSigner
from moonpool.ports.discovery import Discovery
from moonpool.ports.events import EventLog
from moonpool.ports.telemetry import SpanExporter
from moonpool.upgrade.routing_filter import ReleaseRoutes, VersionRouter
from moonpool.wiring.adapters import open_events
from moonpool.wiring.clients import ServiceCaller
from moonpool.wiring.configuration import overridden
from moonpool.wiring.documents import begin_documents, open_documents
from moonpool.wiring.following import TopologyFollower
from moonpool.wiring.resilience import Resilience
from moonpool.wiring.routing import RoutingFollower
from moonpool.wiring.settings import ModuleSettings
from moonpool.wiring.telemetry import open_spans


@dataclass(frozen=True, kw_only=True)
class Infrastructure:
    """Made before anything is started; `components` start in their order.

    `config` is what the process starts with; `documents` tells what becomes of it.
    """

    documents: ServerConfig
    config: PlatformConfig
    data: Path
    clock: Clock
    random: random.Random
    log: FilteringBoundLogger
    events: EventLog
    discovery: Discovery
    pools: Pools
    client: Client
    signer: ContextSigner
    resilience: Resilience
    router: VersionRouter
    """For calls from service to service; a gateway has another one for its clients."""
    spans: SpanExporter | None
    caller: ServiceCaller
    components: list[Component]


class ClientComponent:
    """The client's connections end with the process's other components."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start(self) -> None:
        """Connections are opened when they are needed."""

    async def stop(self) -> None:
        await self._client.aclose()


def _no_rules_of_its_own(service: str, route: Route) -> Handler:
    raise NotImplementedError("calls between services have one chain for all releases")


def open_infrastructure(settings: ModuleSettings) -> Infrastructure:
    """Raises StartupError for a broken configuration."""
    data = Path(settings.data)
    beginning = begin_documents(settings)
    config = overridden(beginning.config, settings.overrides)
    clock = SYSTEM_CLOCK
    chance = random.Random()  # noqa: S311 - draws endpoints, guards nothing
    discovery = FileDiscovery(Path(settings.topology))
    pools = Pools()
    client = Client(clock=clock)
    signer = ContextSigner(settings.name, settings.secrets.calls, clock)
    log = structlog.get_logger().bind(module=settings.name, instance=settings.instance)
    spans = open_spans(config, settings, log)
    resilience = Resilience(
        config.resilience, pools=pools, client=client, clock=clock, chance=chance, log=log
    )
    router = VersionRouter(chance.random, ReleaseRoutes(_no_rules_of_its_own))
    caller = ServiceCaller(
        settings.name,
        router=router,
        filters=[CallTracing(spans), resilience.failover, resilience.retry],
        attempts=resilience.attempts,
        restarts=resilience.restarts,
        signer=signer,
        balancer=ApiBalancer(clock, chance),
        clock=clock,
    )
    documents = open_documents(settings, beginning, caller, log)
    documents.subscribe(PLATFORM, lambda _name, _old, new: resilience.update(new.resilience))
    events = open_events(config, data)
    return Infrastructure(
        documents=documents,
        config=config,
        data=data,
        clock=clock,
        random=chance,
        log=log,
        events=events,
        discovery=discovery,
        pools=pools,
        client=client,
        signer=signer,
        resilience=resilience,
        spans=spans,
        caller=caller,
        router=router,
        components=[
            ClientComponent(client),
            events,
            TopologyFollower(discovery, pools),
            documents,
            RoutingFollower(router, documents, pools),
        ],
    )
