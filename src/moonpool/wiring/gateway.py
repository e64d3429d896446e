"""The gateway's process: filters, upstreams and the edge, put together."""

import asyncio
import gc
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from moonpool.asgi.shutdown import Shutdown
from moonpool.balancing.api import ApiBalancer
from moonpool.balancing.pools import SERVING
from moonpool.balancing.web import WebBalancer
from moonpool.contracts.config import GatewayConfig, PlatformConfig
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.manifest import BalancerKind, Manifest, Route
from moonpool.core.component import Component, Group
from moonpool.core.errors import MoonpoolError, StartupError
from moonpool.core.handler import Handler
from moonpool.core.message import Request
from moonpool.gateway.admin import Administration
from moonpool.gateway.app import Gateway
from moonpool.gateway.openapi import merge
from moonpool.http.limits import BodyPolicy
from moonpool.http.server import Server
from moonpool.middleware.attempts import FailedAttempts
from moonpool.middleware.authentication import Authentication, KeyCache
from moonpool.middleware.cache import AnswerCache
from moonpool.middleware.health import HealthGate
from moonpool.middleware.idempotency import Idempotency
from moonpool.middleware.limit_rules import LimitRules
from moonpool.middleware.metrics import RequestMetrics
from moonpool.middleware.pipeline import REPLAYED, ROUTED, RouteFilter, build, ordered
from moonpool.middleware.rate_limit import RequestLimit, TokenLimit
from moonpool.middleware.recorder import Recorder
from moonpool.middleware.refusals import EdgeRefusals
from moonpool.middleware.resolution import CAPABILITIES
from moonpool.middleware.sampling import Sampler
from moonpool.middleware.spans import SpanExport
from moonpool.middleware.switched_off import SwitchedOff
from moonpool.middleware.tracing import Tracing
from moonpool.middleware.upstream import ServiceUpstream
from moonpool.middleware.validation import Parse, Validation
from moonpool.middleware.verdicts import Verdicts
from moonpool.openai.errors import render_stream_error
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest, EmbeddingRequest
from moonpool.ports.discovery import Topology
from moonpool.wiring.adapters import open_cache, open_limits
from moonpool.wiring.clients import HttpAuthClient, ServiceCaller
from moonpool.wiring.continuity import Continuity, states
from moonpool.wiring.following import RevocationFollower
from moonpool.wiring.inference import InferencePath
from moonpool.wiring.infrastructure import Infrastructure, open_infrastructure
from moonpool.wiring.observation import observe
from moonpool.wiring.registry import load_manifests
from moonpool.wiring.release_manifests import Key, ReleaseManifests
from moonpool.wiring.releasing import Releasing
from moonpool.wiring.route_policies import RoutePolicies
from moonpool.wiring.settings import ModuleSettings

SCHEMAS: Mapping[str, Parse] = {
    schema.__name__: partial(parse, schema)
    for schema in (ChatCompletionRequest, CompletionRequest, EmbeddingRequest)
}
"""By the name that manifests use for a body's schema."""

HANDED_OVER = 5.0
"""Seconds for which a gateway that drains beside another one keeps resting connections: in that time a client
that is at work uses its connection and is told to change over."""


async def run_gateway(
    name: str,
    settings: ModuleSettings,
    sockets: list[socket.socket],
    stop: Shutdown,
    ready: Callable[[], None],
) -> None:
    """Serve the gateway on `sockets` until `stop`, then drain. Raises StartupError."""
    infrastructure = open_infrastructure(settings)
    assembly = _Assembly(settings, infrastructure)
    group = Group([*infrastructure.components, *assembly.components])
    await group.start()
    server = assembly.server
    stop.under_way = lambda: server.active

    async def drain(seconds: float) -> int:
        succeeded = _has_successor(infrastructure.discovery.current, settings)
        assembly.gate.draining = not succeeded  # what still comes on kept connections is served as ever
        return await server.drain(seconds, idle=HANDED_OVER if succeeded else 0.0)

    try:
        await server.start(sockets)
        _calm_collector()
        ready()
        await stop.wait()
        cut, _ = await asyncio.gather(stop.within(drain), stop.within(assembly.hand_back))
        infrastructure.log.info("drained", cut=cut)
    finally:
        await group.stop()


def _has_successor(topology: Topology, settings: ModuleSettings) -> bool:
    """Whether another gateway serves on the same sockets."""
    return any(
        other.name == settings.name and other.instance != settings.instance and other.state in SERVING
        for other in topology.modules
    )


class _Telemetry:
    """What is told of requests, and to whom."""

    def __init__(self, infrastructure: Infrastructure) -> None:
        config, spans = infrastructure.config.telemetry, infrastructure.spans
        self.metrics = RequestMetrics()
        self.verdicts = Verdicts()
        self.sampler = Sampler(config.trace_share if spans is not None else 0.0)
        self.recorder = Recorder(
            infrastructure.events,
            infrastructure.clock,
            infrastructure.log,
            keep=config.keep_requests,
            access=_write_lines if config.access_log else None,
            export=SpanExport(spans, infrastructure.clock) if spans is not None else None,
        )
        self.registry = CollectorRegistry()
        self.registry.register(self.metrics)


class _Stores:
    """What gateways that share a store share: counts of limits, cached answers, idempotency keys."""

    def __init__(self, infrastructure: Infrastructure) -> None:
        config, models = infrastructure.config, infrastructure.resilience.models
        clock, log = infrastructure.clock, infrastructure.log
        self.cache, self.limits = open_cache(config, at_once=True), open_limits(config)
        self.rules = LimitRules(config.limits)
        self.idempotency = Idempotency(self.cache, clock, log)
        self.answers = AnswerCache(
            self.cache, lambda alias, path: models.get(alias, CAPABILITIES[path]), clock, log
        )
        infrastructure.documents.subscribe(PLATFORM, lambda _name, _old, new: self.rules.update(new.limits))


class _Assembly:
    """Everything that is put together once."""

    def __init__(self, settings: ModuleSettings, infrastructure: Infrastructure) -> None:
        self._infrastructure = infrastructure
        self._policies = RoutePolicies(load_manifests(), infrastructure.config, self._rebuild)
        self._telemetry, self._stores = _Telemetry(infrastructure), _Stores(infrastructure)
        self._keys = KeyCache(infrastructure.clock)
        metrics = self._telemetry.metrics
        bound = infrastructure.config.gateway.max_active_requests
        self.gate = HealthGate(lambda: metrics.active, bound)
        self._inference = InferencePath(settings, infrastructure)
        self._upstreams = _Upstreams(infrastructure, self._inference.upstream)
        self._releasing = Releasing(settings, infrastructure, self._upstreams, self._below_router)
        layer = self._layer()
        self._continuity = Continuity(
            settings,
            infrastructure,
            self._policies.manifests,
            [layer[name] for name in REPLAYED],
            self._upstreams,
            self._inference,
        )
        self.hand_back = self._continuity.hand_back
        self._filters = ordered(
            **layer, dead_letter=self._continuity.dead_letter, fallback=self._continuity.fallback
        )
        self._description = _Description(infrastructure.caller)
        self._own = [*self._administration().routes(), *self._continuity.routes]
        self._gateway = self._build()
        self.server = Server(
            self._gateway.handle,
            render_error=EdgeRefusals(self._telemetry.recorder, metrics, infrastructure.clock),
            render_stream_error=render_stream_error,
            body_policy=self._body_policy,
            ssl=_tls(infrastructure.config.gateway),
            clock=infrastructure.clock,
        )
        revocations = f"revocations-{settings.slot}"
        self.components = [
            *self._components(),
            RevocationFollower(infrastructure.events, self._keys, revocations, infrastructure.log),
        ]
        infrastructure.documents.subscribe(PLATFORM, lambda _name, _old, new: self._follow(new))

    def _layer(self) -> dict[str, RouteFilter]:
        """The filters by their names in pipeline.ordered, without those that stand in for a service."""
        clock, log = self._infrastructure.clock, self._infrastructure.log
        resilience, inference = self._infrastructure.resilience, self._inference
        telemetry, stores, releasing = self._telemetry, self._stores, self._releasing
        auth = HttpAuthClient(self._infrastructure.caller)
        return {
            "tracing": Tracing(
                telemetry.recorder,
                telemetry.metrics,
                log,
                sampler=telemetry.sampler,
                verdicts=telemetry.verdicts,
                stats=releasing.stats,
            ),
            "health": self.gate,
            "authentication": Authentication(self._keys, auth, FailedAttempts(clock), clock, log),
            "switched_off": SwitchedOff(),
            "router": releasing.router,
            "requests": RequestLimit(stores.rules, stores.limits),
            "validation": Validation(SCHEMAS),
            "resolution": inference.resolution,
            "idempotency": stores.idempotency,
            "cache": stores.answers,
            "tokens": TokenLimit(stores.rules, stores.limits),
            "money": inference.money,
            "metering": inference.metering,
            "mirror": releasing.mirror,
            "failover": resilience.failover,
            "hedge": resilience.hedge,
            "retry": resilience.retry,
        }

    def _administration(self) -> Administration:
        infrastructure, journal = self._infrastructure, self._inference.journal
        return Administration(
            draining=lambda: self.gate.draining,
            services=lambda: states(infrastructure.pools),
            journal_healthy=lambda: journal.healthy,
            metrics=self._telemetry.registry,
            recorder=self._telemetry.recorder,
            openapi=self._description,
        )

    def _build(self) -> Gateway:
        """By the manifests that are in force now."""
        manifests = self._policies.manifests
        self._description.of(manifests, [route for route, _ in self._own])
        return Gateway(
            manifests=manifests,
            filters=self._filters,
            upstream=self._upstreams,
            own=self._own,
            clock=self._infrastructure.clock,
        )

    def _follow(self, new: PlatformConfig) -> None:
        self.gate.update(new.gateway.max_active_requests)
        self._policies.follow(new)

    def _body_policy(self, request: Request) -> BodyPolicy:
        """Connections keep hold of what they ask for it, and outlive a gateway that is built anew."""
        return self._gateway.body_policy(request)

    def _rebuild(self) -> None:
        """In one turn of the event loop: a request is all of the old rules, or all of the new."""
        self._gateway = self._build()
        self.server.application = self._gateway.handle
        self._continuity.update(self._policies.manifests)
        self._releasing.update(self._policies.releases, anew=True)
        self._infrastructure.log.info("routes changed")

    def _components(self) -> list[Component]:
        """What has to run, in the order of its start."""
        infrastructure, stores, telemetry = self._infrastructure, self._stores, self._telemetry
        spans = infrastructure.spans
        return [
            stores.cache,
            stores.limits,
            stores.idempotency,
            stores.answers,
            telemetry.recorder,
            *self._inference.components,
            *self._continuity.components,
            *self._releasing.components,
            self._release_manifests(),
            *([spans] if spans is not None else []),
            *observe(
                telemetry.registry,
                clock=infrastructure.clock,
                pools=infrastructure.pools,
                resilience=infrastructure.resilience,
                causes=self._continuity.causes,
                verdicts=telemetry.verdicts,
                journal=self._inference.journal,
                letters=self._continuity.letters,
                cache=stores.cache,
                limits=stores.limits,
                spans=spans,
            ),
        ]

    def _release_manifests(self) -> ReleaseManifests:
        def found(manifests: Mapping[Key, Manifest]) -> None:
            self._policies.take_releases(manifests)
            self._releasing.update(self._policies.releases)

        return ReleaseManifests(
            {manifest.service: manifest for manifest in load_manifests()},
            self._infrastructure.pools,
            self._infrastructure.caller,
            self._infrastructure.log,
            found,
        )

    def _below_router(self, service: str, route: Route) -> Handler:
        return build(self._filters[ROUTED:], route, self._upstreams(service, route))


class _Upstreams:
    """The end of each route's chain, by the balancer that its manifest names."""

    def __init__(self, infrastructure: Infrastructure, inference: Handler) -> None:
        self._infrastructure = infrastructure
        clock, chance = infrastructure.clock, infrastructure.random
        self._api, self._web = ApiBalancer(clock, chance), WebBalancer(chance)
        self._inference = inference

    def __call__(self, service: str, route: Route) -> Handler:
        if route.balancer is BalancerKind.INFERENCE:
            return self._inference
        return ServiceUpstream(
            service,
            balancer=self._web if route.balancer is BalancerKind.WEB else self._api,
            attempts=self._infrastructure.resilience.attempts,
            signer=self._infrastructure.signer,
            restarts=self._infrastructure.resilience.restarts,
        )


class _Description:
    """The merged API description, asked of the services when somebody wants it."""

    def __init__(self, caller: ServiceCaller) -> None:
        self._caller = caller
        self._manifests: Sequence[Manifest] = ()
        self._own: Sequence[Route] = ()

    def of(self, manifests: Sequence[Manifest], own: Sequence[Route]) -> None:
        self._manifests, self._own = manifests, own

    async def __call__(self) -> bytes:
        manifests, own = self._manifests, self._own
        parts = await asyncio.gather(*(self._part(manifest.service) for manifest in manifests))
        documents = {name: document for name, document in parts if document is not None}
        return msgspec.json.encode(merge(manifests, documents, own))

    async def _part(self, service: str) -> tuple[str, dict[str, Any] | None]:
        try:
            body = await self._caller.call(service, "GET", "/internal/openapi.json")
        except MoonpoolError:
            return service, None
        document: dict[str, Any] = msgspec.json.decode(body)
        return service, document


def _calm_collector() -> None:
    """What is there now lives as long as the process, and what a request makes is freed by counting:
    looking for cycles every few hundred objects would be a tenth of the gateway's work."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _write_lines(lines: Iterable[bytes]) -> None:
    sys.stderr.buffer.write(b"\n".join([*lines, b""]))
    sys.stderr.buffer.flush()


def _tls(config: GatewayConfig) -> ssl.SSLContext | None:
    if not config.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise StartupError(
            f"the TLS certificate or key cannot be read: {error}", where=config.tls_certificate
        ) from None
    return context
