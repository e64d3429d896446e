"""The clients by which modules call each other, with the same filters as the gateway's below its edge."""

import asyncio
import time
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from moonpool.balancing.api import ApiBalancer
from moonpool.contracts.auth import Verdict, VerifyKey
from moonpool.contracts.catalogue import Catalogue
from moonpool.contracts.manifest import Manifest, Route, Timeouts
from moonpool.contracts.monitoring import ModuleHealth
from moonpool.core.clock import Clock
from moonpool.core.context import Context
from moonpool.core.deadline import Deadline
from moonpool.core.errors import MoonpoolError, Unavailable, UpstreamMalformed
from moonpool.core.handler import Filter, Handler, chain
from moonpool.core.message import Body, Request, Response
from moonpool.core.principal import Principal
from moonpool.http.address import Address
from moonpool.http.client import Client
from moonpool.http.reading import read
from moonpool.middleware.attempt import Attempts
from moonpool.middleware.call_tracing import CallTracing
from moonpool.middleware.restarts import Restarts
from moonpool.middleware.signing import ContextSigner
from moonpool.middleware.tracing import RequestIds
from moonpool.middleware.upstream import ServiceUpstream
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest
from moonpool.ports.discovery import Discovery, Instance
from moonpool.ports.telemetry import SpanExporter

S = TypeVar("S")
QUICK = Timeouts(total=5.0, connect=1.0, first_byte=5.0, between_bytes=5.0)
ANSWER_LIMIT = 16 * 1024 * 1024


class ServiceCaller:
    """Calls a service on this module's own behalf."""

    def __init__(
        self,
        issuer: str,
        *,
        router: Filter,
        filters: Sequence[Filter],
        attempts: Attempts,
        signer: ContextSigner,
        balancer: ApiBalancer,
        clock: Clock,
        restarts: Restarts | None = None,
    ) -> None:
        self._principal = Principal(service=issuer)
        self._router = router
        self._filters = filters
        self._attempts = attempts
        self._restarts = restarts
        self._signer = signer
        self._balancer = balancer
        self._clock = clock
        self._ids = RequestIds()
        self._handlers: dict[tuple[str, bool], Handler] = {}

    async def call(
        self,
        service: str,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        query: str = "",
        timeouts: Timeouts = QUICK,
        release: str = "",
    ) -> bytes:
        """The body of a 200. `release` "": of the one that the routing gives.

        Raises Unavailable or UpstreamError for everything else.
        """
        answer = await self._send(service, method, path, query, body, timeouts, release)
        return await read(answer, ANSWER_LIMIT)

    async def stream(self, service: str, path: str, query: str = "", *, timeouts: Timeouts) -> Body:
        """GET: the body of a 200, as it comes. Raises as `call` does."""
        return await self._send(service, "GET", path, query, b"", timeouts)

    async def _send(
        self,
        service: str,
        method: str,
        path: str,
        query: str,
        body: bytes,
        timeouts: Timeouts,
        release: str = "",
    ) -> Body:
        ctx = Context(self._clock)
        ctx.release_wanted = release
        ctx.request_id = self._ids.new()
        ctx.deadline = Deadline(ctx.started + timeouts.total)
        ctx.principal = self._principal
        ctx.service = service
        ctx.route = Route(method=method, path=path, timeouts=timeouts)
        request = Request(method, path, query, {b"content-type": b"application/json"}, body)
        response = await self._handler(service, routed=not release)(ctx, request)
        if response.status != 200:
            await read(response.body, ANSWER_LIMIT)
            raise Unavailable(f"the {service} service answered {response.status}")
        return response.body

    def _handler(self, service: str, *, routed: bool) -> Handler:
        handler = self._handlers.get((service, routed))
        if handler is None:
            upstream = ServiceUpstream(
                service,
                balancer=self._balancer,
                attempts=self._attempts,
                signer=self._signer,
                restarts=self._restarts,
            )
            filters = [self._router, *self._filters] if routed else self._filters
            handler = self._handlers[service, routed] = chain(filters, upstream)
        return handler


class HttpAuthClient:
    def __init__(self, caller: ServiceCaller) -> None:
        self._caller = caller

    async def verify(self, key: str) -> Verdict:
        body = msgspec.json.encode(VerifyKey(key))
        return _decode(await self._caller.call("auth", "POST", "/internal/verify", body), Verdict)


class HttpCatalogueClient:
    def __init__(self, caller: ServiceCaller) -> None:
        self._caller = caller

    async def catalogue(self, known: int | None = None) -> Catalogue:
        query = "" if known is None else f"known={known}"
        answer = await self._caller.call("model", "GET", "/internal/catalogue", query=query)
        return _decode(answer, Catalogue)


def _decode(data: bytes, shape: type[S]) -> S:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        raise UpstreamMalformed(f"not a {shape.__name__}: {error}") from None


class ChainedInferenceClient:
    """Chat completions for a principal, through metering and the inference balancer."""

    def __init__(
        self,
        manifest: Manifest,
        filters: Sequence[Filter],
        upstream: Handler,
        clock: Clock,
        spans: SpanExporter | None = None,
    ) -> None:
        self.update(manifest)
        self._handler = chain([CallTracing(spans), *filters], upstream)
        self._clock = clock

    def update(self, manifest: Manifest) -> None:
        """For requests that begin from now on."""
        self._route = _chat_route(manifest)

    async def chat(self, principal: Principal, body: bytes, *, request_id: str) -> Response:
        route = self._route
        ctx = Context(self._clock)
        ctx.request_id = request_id
        ctx.route = route
        ctx.principal = principal
        ctx.service = "inference"
        ctx.deadline = Deadline(ctx.started + route.timeouts.total)
        ctx.payload = parse(ChatCompletionRequest, body)
        return await self._handler(ctx, Request("POST", route.path, "", {}, body))


def _chat_route(manifest: Manifest) -> Route:
    return next(route for route in manifest.routes if route.path == "/v1/chat/completions")


class HttpProbeClient:
    """Looks at every instance of the topology, by its own socket. What somebody else runs is not asked: it
    has no such answers, and whoever keeps it in the topology watches it."""

    def __init__(self, discovery: Discovery, client: Client, gateway: str = "gateway") -> None:
        self._discovery = discovery
        self._client = client
        self._gateway = gateway

    async def probe(self) -> list[ModuleHealth]:
        external = [_as_told(one) for one in self._discovery.current.modules if one.external]
        return [*await asyncio.gather(*map(self._probe, self._instances())), *external]

    async def metrics(self) -> dict[str, bytes]:
        instances = self._instances()
        answers = await asyncio.gather(*map(self._metrics, instances))
        return {
            i.instance: answer for i, answer in zip(instances, answers, strict=True) if answer is not None
        }

    def _instances(self) -> Sequence[Instance]:
        there = self._discovery.current.modules
        return [instance for instance in there if instance.state != "stopped" and not instance.external]

    async def _get(self, instance: Instance, path: str) -> tuple[int, bytes]:
        request = Request("GET", path)
        response = await self._client.send(
            Address.parse(instance.own or instance.endpoint),
            request,
            connect_timeout=1.0,
            first_byte_timeout=3.0,
            idle_timeout=3.0,
        )
        return response.status, await read(response.body, ANSWER_LIMIT)

    async def _probe(self, instance: Instance) -> ModuleHealth:
        started = time.monotonic()
        status, checks, latency = "unreachable", {}, None
        try:
            _, body = await self._get(instance, "/readyz")
            answer = msgspec.json.decode(body, type=_Readiness)
            status, checks = answer.status, answer.checks
            latency = (time.monotonic() - started) * 1000
        except MoonpoolError as error:
            checks = {"probe": error.detail}
        except (msgspec.DecodeError, ValueError):
            checks = {"probe": "its answer is no readiness"}
        return ModuleHealth(
            name=instance.name,
            instance=instance.instance,
            release=instance.release,
            endpoint=instance.endpoint,
            pid=instance.pid,
            state=instance.state,
            status=status,
            checks=checks,
            latency_ms=latency,
            restarts=instance.restarts,
        )

    async def _metrics(self, instance: Instance) -> bytes | None:
        path = "/internal/metrics" if instance.name == self._gateway else "/metrics"
        try:
            status, body = await self._get(instance, path)
        except (MoonpoolError, ValueError):
            return None
        return body if status == 200 else None


def _as_told(instance: Instance) -> ModuleHealth:
    """The topology's word for an instance."""
    return ModuleHealth(
        name=instance.name,
        instance=instance.instance,
        release=instance.release,
        endpoint=instance.endpoint,
        pid=instance.pid,
        state=instance.state,
        status=instance.state if instance.state in ("ready", "draining", "starting") else "unreachable",
        checks={"endpoint": instance.reason} if instance.reason else {},
    )


class _Readiness(msgspec.Struct):
    status: str
    checks: dict[str, str] = {}
