import msgspec
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from moonpool.contracts.manifest import Access
from moonpool.core.context import Context
from moonpool.core.errors import NotFound
from moonpool.core.message import Request
from moonpool.gateway.admin import Administration
from moonpool.middleware.metrics import RequestMetrics


class House:
    def __init__(self) -> None:
        self.draining, self.healthy = False, True
        self.services = {"chat": "ready", "auth": "ready"}
        self.records: dict[str, object] = {}
        registry = CollectorRegistry()
        registry.register(RequestMetrics())
        self.admin = Administration(
            draining=lambda: self.draining,
            services=lambda: self.services,
            journal_healthy=lambda: self.healthy,
            metrics=registry,
            recorder=self,  # type: ignore[arg-type]
            openapi=self.describe,
        )

    def find(self, request_id: str) -> object:
        return self.records.get(request_id)

    async def describe(self) -> bytes:
        return b'{"openapi": "3.1.0"}'

    async def get(self, path: str, **parameters: str):
        handlers = {route.path: handler for route, handler in self.admin.routes()}
        ctx = Context()
        ctx.parameters = parameters
        return await handlers[path](ctx, Request("GET", path))


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize(
    ("draining", "healthy", "chat", "ready", "health", "status"),
    [
        (False, True, "ready", 200, 200, "ready"),
        (False, True, "down", 200, 503, "degraded"),
        (False, False, "ready", 200, 503, "degraded"),
        (True, True, "ready", 503, 503, "draining"),
        (True, False, "missing", 503, 503, "draining"),
    ],
)
async def test_probes(house, draining, healthy, chat, ready, health, status) -> None:
    house.draining, house.healthy, house.services["chat"] = draining, healthy, chat
    assert (await house.get("/livez")).status == 200
    readyz = await house.get("/readyz")
    assert (readyz.status, msgspec.json.decode(readyz.body)["status"]) == (ready, status)
    healthz = await house.get("/healthz")
    assert healthz.status == health
    assert msgspec.json.decode(healthz.body)["services"] == house.services
    assert readyz.header(b"cache-control") == b"no-store"


async def test_a_journal_that_cannot_be_written_says_so(house) -> None:
    house.healthy = False
    checks = msgspec.json.decode((await house.get("/readyz")).body)["checks"]
    assert "disk" in checks["journal"]
    assert checks["chat"] == "ok"


async def test_metrics_parse(house) -> None:
    response = await house.get("/internal/metrics")
    names = [family.name for family in text_string_to_metric_families(response.body.decode())]
    assert "moonpool_requests_active" in names
    assert response.header(b"content-type").startswith(b"text/plain")


async def test_recent_requests(house) -> None:
    house.records["r"] = {"id": "r"}
    assert (await house.get("/admin/recent/{request_id}", request_id="r")).body == b'{"id":"r"}'
    with pytest.raises(NotFound):
        await house.get("/admin/recent/{request_id}", request_id="x")


def test_who_may_ask(house) -> None:
    access = {route.path: route.access for route, _ in house.admin.routes()}
    assert access["/admin/recent/{request_id}"] is Access.ADMIN
    assert access["/internal/metrics"] is Access.LOCAL
    assert access["/livez"] is access["/readyz"] is access["/openapi.json"] is Access.PUBLIC
