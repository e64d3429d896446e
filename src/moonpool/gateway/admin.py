"""What the gateway answers itself: probes, its own metrics, the merged API description, recent requests."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from moonpool.contracts.manifest import Access, BodyKind, Route
from moonpool.core.context import Context
from moonpool.core.errors import NotFound
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.middleware.recorder import Recorder

JSON = (b"content-type", b"application/json")
NO_STORE = (b"cache-control", b"no-store")


def _route(path: str, access: Access, summary: str, *, quiet: bool = False) -> Route:
    return Route(
        method="GET",
        path=path,
        access=access,
        body=BodyKind.NONE,
        priority=0,
        quiet=quiet,
        summary=summary,
    )


@dataclass(frozen=True)
class Administration:
    """`services` tells the state of every service's best instance; `openapi` the merged description."""

    draining: Callable[[], bool]
    services: Callable[[], Mapping[str, str]]
    journal_healthy: Callable[[], bool]
    metrics: CollectorRegistry
    recorder: Recorder
    openapi: Callable[[], Awaitable[bytes]]

    def routes(self) -> list[tuple[Route, Handler]]:
        public, local, admin = Access.PUBLIC, Access.LOCAL, Access.ADMIN
        return [
            (_route("/livez", public, "Whether the gateway's process lives", quiet=True), self.livez),
            (_route("/readyz", public, "Whether the gateway takes requests", quiet=True), self.readyz),
            (_route("/healthz", public, "The state of every service", quiet=True), self.healthz),
            (_route("/internal/metrics", local, "This gateway's own metrics", quiet=True), self.own_metrics),
            (_route("/openapi.json", public, "The API's description (OpenAPI 3.1)"), self.describe),
            (_route("/admin/recent/{request_id}", admin, "A recent request's decisions"), self.recent),
        ]

    async def livez(self, ctx: Context, request: Request) -> Response:
        return _json(200, {"status": "ok"})

    async def readyz(self, ctx: Context, request: Request) -> Response:
        """Ready also when services are missing: what needs none of them is still answered."""
        checks = {"journal": "ok" if self.journal_healthy() else "cannot be written: is the disk full?"}
        checks |= {name: _verdict(state) for name, state in self.services().items()}
        if self.draining():
            return _json(503, {"status": "draining", "checks": checks})
        well = all(value == "ok" for value in checks.values())
        return _json(200, {"status": "ready" if well else "degraded", "checks": checks})

    async def healthz(self, ctx: Context, request: Request) -> Response:
        """503 unless everything is well: for people and uptime monitors, not for routing."""
        services = dict(self.services())
        well = not self.draining() and self.journal_healthy() and set(services.values()) <= {"ready"}
        status = "draining" if self.draining() else "ok" if well else "degraded"
        return _json(200 if well else 503, {"status": status, "services": services})

    async def own_metrics(self, ctx: Context, request: Request) -> Response:
        headers = [(b"content-type", CONTENT_TYPE_LATEST.encode()), NO_STORE]
        return Response(200, headers, generate_latest(self.metrics))

    async def describe(self, ctx: Context, request: Request) -> Response:
        return Response(200, [JSON], await self.openapi())

    async def recent(self, ctx: Context, request: Request) -> Response:
        request_id = ctx.parameters["request_id"]
        record = self.recorder.find(request_id)
        if record is None:
            raise NotFound(f"this gateway holds no recent request {request_id!r}")
        return Response(200, [JSON, NO_STORE], msgspec.json.encode(record))


def _verdict(state: str) -> str:
    return "ok" if state == "ready" else state


def _json(status: int, value: object) -> Response:
    return Response(status, [JSON, NO_STORE], msgspec.json.encode(value))
