"""The gateway as an application: routes with their chains, refusals with theirs, how bodies are taken."""

import msgspec
import pytest
import structlog

from moonpool.contracts.manifest import BodyKind, Manifest, Route, Timeouts
from moonpool.core.clock import ManualClock
from moonpool.core.errors import Overloaded
from moonpool.core.message import Request, Response
from moonpool.gateway.app import NOWHERE, Gateway
from moonpool.middleware.health import HealthGate
from moonpool.middleware.metrics import RequestMetrics
from moonpool.middleware.tracing import Tracing

MANIFEST = Manifest(
    service="chat",
    summary="",
    routes=(
        Route(method="GET", path="/api/x/{id}", timeouts=Timeouts(total=7.0)),
        Route(method="POST", path="/api/x", body_limit=5),
        Route(method="POST", path="/api/upload", body=BodyKind.STREAMED, body_limit=1000, priority=2),
    ),
)
LIVE = Route(method="GET", path="/livez", quiet=True)


class Kept:
    def __init__(self) -> None:
        self.records: list = []

    def add(self, finished) -> None:
        self.records.append(finished)


class House:
    def __init__(self) -> None:
        self.clock, self.kept, self.metrics = ManualClock(), Kept(), RequestMetrics()
        self.seen: list = []
        self.gate = HealthGate(lambda: self.metrics.active, 10)
        tracing = Tracing(self.kept, self.metrics, structlog.get_logger())  # type: ignore[arg-type]
        self.gateway = Gateway(
            manifests=[MANIFEST],
            filters=[tracing, self.gate],
            upstream=self.upstream,
            own=[(LIVE, self.live)],
            clock=self.clock,
        )

    def upstream(self, service: str, route: Route):
        async def handler(ctx, request) -> Response:
            self.seen.append((service, ctx))
            return Response(200, [], route.path.encode())

        return handler

    async def live(self, ctx, request) -> Response:
        return Response(200, [], b"live")


@pytest.fixture
def house() -> House:
    return House()


async def test_a_route_with_its_parameters_and_deadline(house: House) -> None:
    response = await house.gateway.handle(Request("GET", "/api/x/7"))
    assert response.body == b"/api/x/{id}"
    ((service, ctx),) = house.seen
    assert (service, ctx.service, ctx.parameters) == ("chat", "chat", {"id": "7"})
    assert ctx.deadline.remaining(house.clock.monotonic()) == 7.0
    assert house.kept.records[0].ctx.route.path == "/api/x/{id}"


async def test_what_the_gateway_answers_itself(house: House) -> None:
    assert (await house.gateway.handle(Request("GET", "/livez"))).body == b"live"
    assert house.kept.records == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/nowhere", 404, "unknown_url"), ("DELETE", "/api/x/7", 405, "method_not_allowed")],
)
async def test_refusals_are_traced_and_make_no_new_series(house, method, path, status, code) -> None:
    response = await house.gateway.handle(Request(method, path))
    assert response.status == status
    assert msgspec.json.decode(response.body)["error"]["code"] == code
    assert response.header(b"x-request-id")
    assert house.kept.records[0].ctx.route is NOWHERE
    if status == 405:
        assert response.header(b"allow") == b"GET, HEAD"


@pytest.mark.parametrize(
    ("method", "path", "limit", "streamed"),
    [
        ("POST", "/api/x", 5, False),
        ("POST", "/api/upload", 1000, True),
        ("POST", "/nowhere", 64 * 1024, False),
        ("PUT", "/api/upload", 64 * 1024, False),
    ],
)
def test_how_a_body_is_taken(house: House, method: str, path: str, limit: int, streamed: bool) -> None:
    assert house.gateway.body_policy(Request(method, path)) == (limit, streamed)


async def test_draining_refuses_all_but_probes(house: House) -> None:
    house.gate.draining = True
    assert (await house.gateway.handle(Request("GET", "/api/x/7"))).status == 503
    assert (await house.gateway.handle(Request("GET", "/livez"))).status == 200


@pytest.mark.parametrize(("active", "upload", "other"), [(7, 200, 200), (8, 503, 200), (10, 503, 503)])
async def test_overload_sheds_by_priority(house: House, active: int, upload: int, other: int) -> None:
    house.metrics.active = active
    response = await house.gateway.handle(Request("POST", "/api/upload"))
    assert response.status == upload
    if upload == 503:
        assert msgspec.json.decode(response.body)["error"]["code"] == Overloaded.code
        assert response.header(b"retry-after") == b"1"
    assert (await house.gateway.handle(Request("GET", "/api/x/7"))).status == other
    assert house.metrics.active == active
