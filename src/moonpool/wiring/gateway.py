"""The gateway's process: filters, upstreams and the edge, put together."""

import asyncio
import gc
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from moonpool.balancing.api import ApiBalancer
from moonpool.balancing.pools import SERVING
from moonpool.balancing.web import WebBalancer
from moonpool.contracts.config import GatewayConfig
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.manifest import BalancerKind, Manifest, Route
from moonpool.core.component import Component, Group
from moonpool.core.errors import MoonpoolError, StartupError
from moonpool.core.handler import Handler
from moonpool.gateway.admin import Administration
from moonpool.gateway.app import Gateway
from moonpool.gateway.openapi import merge
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
from moonpool.wiring.inference import InferencePath, patient
from moonpool.wiring.infrastructure import Infrastructure, open_infrastructure
from moonpool.wiring.observation import observe
from moonpool.wiring.registry import load_manifests
from moonpool.wiring.release_manifests import ReleaseManifests
from moonpool.wiring.releasing import Releasing
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
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    """Serve the gateway on `sockets` until `stop`, then drain. Raises StartupError."""
    infrastructure = open_infrastructure(settings)
    assembly = _Assembly(settings, infrastructure)
    group = Group([*infrastructure.components, *assembly.components])
    await group.start()
    server = assembly.server
    try:
        await server.start(sockets)
        _calm_collector()
        ready()
        await stop.wait()
        succeeded = _has_successor(infrastructure.discovery.current, settings)
        assembly.gate.draining = not succeeded  # what still comes on kept connections is served as ever
        cut = await server.drain(settings.drain_timeout, idle=HANDED_OVER if succeeded else 0.0)
        infrastructure.log.info("drained", cut=cut)
    finally:
        await group.stop()


def _has_successor(topology: Topology, settings: ModuleSettings) -> bool:
    """Whether another gateway serves on the same sockets."""
    return any(
        other.name == settings.name and other.instance != settings.instance and other.state in SERVING
        for other in topology.modules
    )


class _Assembly:
    """Everything that is put together once."""

    def __init__(self, settings: ModuleSettings, infrastructure: Infrastructure) -> None:
        config, resilience = infrastructure.config, infrastructure.resilience
        clock, log = infrastructure.clock, infrastructure.log
        timeouts = config.resilience.timeouts
        manifests = [patient(manifest, timeouts) for manifest in load_manifests()]
        metrics = RequestMetrics()
        keys = KeyCache(clock)
        self.gate = HealthGate(lambda: metrics.active, config.gateway.max_active_requests)
        spans = infrastructure.spans
        sampler = Sampler(config.telemetry.trace_share if spans is not None else 0.0)
        verdicts = Verdicts()
        recorder = Recorder(
            infrastructure.events,
            clock,
            log,
            keep=config.telemetry.keep_requests,
            access=_write_lines if config.telemetry.access_log else None,
            export=SpanExport(spans, clock) if spans is not None else None,
        )
        inference = InferencePath(settings, infrastructure)
        upstreams = _Upstreams(infrastructure, inference.upstream)
        store, limits = open_cache(config, at_once=True), open_limits(config)
        rules = LimitRules(config.limits)
        idempotency = Idempotency(store, clock, log)
        cache = AnswerCache(
            store, lambda alias, path: resilience.models.get(alias, CAPABILITIES[path]), clock, log
        )
        releasing = Releasing(settings, infrastructure, upstreams, self._below_router)
        layer: dict[str, RouteFilter] = {
            "tracing": Tracing(
                recorder, metrics, log, sampler=sampler, verdicts=verdicts, stats=releasing.stats
            ),
            "health": self.gate,
            "authentication": Authentication(
                keys, HttpAuthClient(infrastructure.caller), FailedAttempts(clock), clock, log
            ),
            "router": releasing.router,
            "requests": RequestLimit(rules, limits),
            "validation": Validation(SCHEMAS),
            "resolution": inference.resolution,
            "idempotency": idempotency,
            "cache": cache,
            "tokens": TokenLimit(rules, limits),
            "money": inference.money,
            "metering": inference.metering,
            "mirror": releasing.mirror,
            "failover": resilience.failover,
            "hedge": resilience.hedge,
            "retry": resilience.retry,
        }
        continuity = Continuity(
            settings,
            infrastructure,
            manifests,
            [layer[name] for name in REPLAYED],
            upstreams,
            inference,
        )
        self._filters = ordered(**layer, dead_letter=continuity.dead_letter, fallback=continuity.fallback)
        self._upstreams = upstreams
        registry = CollectorRegistry()
        registry.register(metrics)
        description = _Description(manifests, infrastructure.caller)
        administration = Administration(
            draining=lambda: self.gate.draining,
            services=lambda: states(infrastructure.pools),
            journal_healthy=lambda: inference.journal.healthy,
            metrics=registry,
            recorder=recorder,
            openapi=description,
        )
        own = [*administration.routes(), *continuity.routes]
        description.own = [route for route, _ in own]
        gateway = Gateway(
            manifests=manifests, filters=self._filters, upstream=upstreams, own=own, clock=clock
        )
        releases = ReleaseManifests(
            {manifest.service: manifest for manifest in load_manifests()},
            infrastructure.pools,
            infrastructure.caller,
            log,
            lambda found: releasing.routes.update(
                {key: patient(manifest, timeouts) for key, manifest in found.items()}
            ),
        )
        infrastructure.documents.subscribe(PLATFORM, lambda _name, _old, new: rules.update(new.limits))
        self.server = Server(
            gateway.handle,
            render_error=EdgeRefusals(recorder, metrics, clock),
            render_stream_error=render_stream_error,
            body_policy=gateway.body_policy,
            ssl=_tls(config.gateway),
            clock=clock,
        )
        self.components: list[Component] = [
            store,
            limits,
            idempotency,
            cache,
            recorder,
            *inference.components,
            *continuity.components,
            *releasing.components,
            releases,
            *([spans] if spans is not None else []),
            *observe(
                registry,
                clock=clock,
                pools=infrastructure.pools,
                resilience=resilience,
                causes=continuity.causes,
                verdicts=verdicts,
                journal=inference.journal,
                letters=continuity.letters,
                cache=store,
                limits=limits,
                spans=spans,
            ),
            RevocationFollower(infrastructure.events, keys, f"revocations-{settings.slot}", log),
        ]

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

    def __init__(self, manifests: list[Manifest], caller: ServiceCaller) -> None:
        self._manifests = manifests
        self._caller = caller
        self.own: list[Route] = []

    async def __call__(self) -> bytes:
        parts = await asyncio.gather(*(self._part(manifest.service) for manifest in self._manifests))
        documents = {name: document for name, document in parts if document is not None}
        return msgspec.json.encode(merge(self._manifests, documents, self.own))

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
