"""The config server over HTTP: what it takes, what it answers, and whom it lets in."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import structlog
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from prometheus_client import CollectorRegistry

from harness.odd_requests import odd_requests
from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.asgi.parts import Parts
from moonpool.configserver.app import Setup, create
from moonpool.configserver.door import WatchersDoor
from moonpool.configserver.manifest import MANIFEST
from moonpool.configserver.tables import metadata
from moonpool.contracts import context
from moonpool.contracts.clients import Clients
from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.documents.wire import CONFIG, WATCH
from moonpool.contracts.manifest import Access, BodyKind
from moonpool.core.clock import ManualClock
from moonpool.core.principal import Principal, Role
from moonpool.wiring.adapters import CONFIG_MIGRATIONS
from moonpool.wiring.documents import load_kinds

KEY = b"the key that signs contexts in tests"
WATCHER = b"the key that watchers sign with"
ADMIN = Principal(user="user_ann", tenant="t", key="key_1", role=Role.ADMIN)
MEMBER = Principal(user="user_bob", tenant="t", role=Role.MEMBER)
DOCUMENT = "/admin/config/documents/platform"


class Client:
    def __init__(self, http: httpx.AsyncClient, clock: ManualClock, parts: Parts) -> None:
        self.parts = parts
        self._http = http
        self._clock = clock

    async def __call__(
        self, method: str, path: str, *, by: Principal = ADMIN, issuer: str = "gateway", **more: Any
    ) -> httpx.Response:
        signed = context.sign(
            more.pop("key", KEY), issuer=issuer, audience=CONFIG, principal=by, now=self._clock.time()
        )
        headers = {context.HEADER.decode(): signed.decode(), **more.pop("headers", {})}
        return await self._http.request(method, path, headers=headers, **more)


@pytest.fixture
async def client(tmp_path) -> AsyncIterator[Client]:
    clock = ManualClock()
    parts = Parts(
        manifest=MANIFEST,
        release="v1",
        instance="config-0-1",
        config=PlatformConfig(),
        data=tmp_path,
        database=SqliteDatabase(tmp_path / "config.db", CONFIG_MIGRATIONS),
        events=None,  # type: ignore[arg-type]
        cache=None,  # type: ignore[arg-type]
        objects=None,  # type: ignore[arg-type]
        clients=Clients(),
        clock=clock,
        metrics=CollectorRegistry(),
        log=structlog.get_logger(),
        context_key=KEY,
        secrets={},
    )
    app: Any = create(parts, Setup(kinds=load_kinds(), environ={}, watching_key=WATCHER))
    litestar = app
    while not hasattr(litestar, "lifespan"):
        litestar = getattr(litestar, "_app", None) or litestar.app
    started, ended = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with litestar.lifespan():
            started.set()
            await ended.wait()

    life = asyncio.create_task(live())  # its cancel scopes begin and end in one task
    await started.wait()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://config") as http:
        yield Client(http, clock, parts)
    ended.set()
    await life


async def test_reading(client: Client) -> None:
    shown = await client("GET", DOCUMENT)
    assert (shown.status_code, shown.headers["etag"]) == (200, '"1"')
    assert shown.json()["content"] == {}
    assert [one["name"] for one in (await client("GET", "/admin/config/documents")).json()["data"]] == [
        "platform"
    ]
    kinds = (await client("GET", "/admin/config/kinds")).json()["data"]
    assert "platform" in {kind["name"] for kind in kinds}
    assert "$defs" in kinds[0]["schema"] or "properties" in kinds[0]["schema"]
    assert (await client("GET", "/admin/config/documents/nothing")).json()["error"]["code"] == (
        "unknown_document"
    )


@pytest.mark.parametrize("number", ["9" * 23, "9" * 5000, str(2**63), "-1", "x"])
async def test_versions_that_cannot_be(client: Client, number: str) -> None:
    """Nothing that is sent is a failure of the server: five of them would open its breaker."""
    for path, name in (
        ("documents/platform", "version"),
        ("diff/platform", "old"),
        ("diff/platform", "new"),
        ("history/platform", "before"),
        ("audit", "before"),
    ):
        refused = await client("GET", f"/admin/config/{path}?{name}={number}")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)
    for field in ("to", "version"):
        body = f'{{"to": 1, "{field}": {number}}}'.replace('"to": 1, "to"', '"to"').encode()
        refused = await client("POST", "/admin/config/rollback/platform", content=body)
        assert refused.status_code == 400
    matched = await client("PUT", DOCUMENT, json={"content": {}}, headers={"if-match": number})
    assert matched.status_code in {400, 412}
    assert matched.json()["error"]["param"] == "if-match"


async def test_no_request_is_a_failure_of_the_server(client: Client) -> None:
    description = (await client("GET", "/internal/openapi.json")).json()
    for odd in odd_requests(description, {"/admin/config/documents/{": "platform"}):
        answer = await client(odd.method, odd.path, content=odd.body)
        assert answer.status_code < 500, odd


async def test_the_last_version_is_only_missing(client: Client) -> None:
    missing = await client("GET", f"{DOCUMENT}?version={2**63 - 1}")
    assert missing.status_code == 404


async def test_replacing_needs_a_version(client: Client) -> None:
    body: dict[str, Any] = {"content": {"limits": {"default": {"concurrent": 3}}}}
    assert (await client("PUT", DOCUMENT, json=body)).json()["error"]["code"] == "version_required"
    done = await client("PUT", DOCUMENT, json=body, headers={"if-match": '"1"'})
    assert (done.status_code, done.headers["etag"], done.json()["version"]) == (200, '"2"', 2)
    late = await client("PUT", DOCUMENT, json={**body, "version": 1})
    assert (late.status_code, late.headers["etag"]) == (409, '"2"')
    assert late.json()["error"]["code"] == "version_conflict"
    stale = await client("PUT", DOCUMENT, json=body, headers={"if-match": "1"})
    assert (stale.status_code, stale.headers["etag"]) == (412, '"2"')
    wrong = await client("PUT", DOCUMENT, json=body, headers={"if-match": "*"})
    assert wrong.status_code == 400


async def test_a_fault_is_told_with_its_place(client: Client) -> None:
    bad = {"set": [{"path": "models.m.targets[0].url", "value": "nowhere"}]}
    refused = await client("PATCH", DOCUMENT, json=bad)
    assert refused.status_code == 422
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_document", "models.m.targets[0].url")
    assert "http://" in error["message"]
    unknown = await client("PATCH", DOCUMENT, json={"sett": []})
    assert unknown.json()["error"]["code"] == "unknown_parameter"


async def test_history_diff_rollback_audit(client: Client) -> None:
    for number in (3, 4):
        wish = {"set": [{"path": "limits.default.concurrent", "text": str(number)}], "reason": f"n{number}"}
        assert (await client("PATCH", DOCUMENT, json=wish)).status_code == 200
    past = (await client("GET", "/admin/config/history/platform", params={"limit": 2})).json()
    assert ([one["version"] for one in past["data"]], past["has_more"]) == ([3, 2], True)
    newest = (await client("GET", "/admin/config/diff/platform")).json()
    assert newest["changes"] == [{"path": "limits.default.concurrent", "kind": "changed", "old": 3, "new": 4}]
    whole = (await client("GET", "/admin/config/diff/platform", params={"old": 0, "new": 2})).json()
    assert whole["changes"] == [{"path": "limits.default.concurrent", "kind": "added", "new": 3}]
    back = await client("POST", "/admin/config/rollback/platform", json={"to": 2})
    assert (back.status_code, back.json()["version"]) == (200, 4)
    entries = (await client("GET", "/admin/config/audit", params={"limit": 1})).json()
    assert entries["data"][0]["who"] == "user_ann"
    assert (entries["data"][0]["action"], entries["has_more"]) == ("rollback", True)


async def test_a_trial_changes_nothing(client: Client) -> None:
    body = {"content": {"gateway": {"port": 81}}}
    tried = await client("POST", "/admin/config/validate/platform", json=body)
    assert (tried.status_code, tried.json()["restart"]) == (200, ["gateway.port"])
    assert (await client("GET", DOCUMENT)).json()["version"] == 1


async def test_only_admins_and_modules_are_let_in(client: Client) -> None:
    for method, path in (("GET", DOCUMENT), ("PATCH", DOCUMENT), ("GET", "/admin/config/audit")):
        refused = await client(method, path, by=MEMBER, json={} if method == "PATCH" else None)
        assert refused.status_code == 403
    assert (await client("GET", WATCH)).status_code == 403
    body = {"content": {}, "version": 1}
    module = Principal(service="chat")
    written = await client("PUT", "/internal/documents/platform", by=module, issuer="chat", json=body)
    assert written.json()["error"]["code"] == "not_a_writer"
    forged = await client("PUT", "/internal/documents/platform", by=module, issuer="gateway", json=body)
    assert forged.status_code == 403


async def test_a_watchers_key_opens_nothing_else(client: Client) -> None:
    module = Principal(service="chat")
    body = {"content": {}, "version": 1}
    for method, path, by in (
        ("PUT", "/internal/documents/platform", module),
        ("GET", DOCUMENT, ADMIN),
        ("PATCH", DOCUMENT, ADMIN),
        ("GET", f"{WATCH}/", ADMIN),
    ):
        sent = body if method != "GET" else None
        refused = await client(method, path, by=by, issuer="gateway", key=WATCHER, json=sent)
        assert refused.status_code == 401
    other = await client("GET", WATCH, by=ADMIN, issuer="chat", key=b"no key of ours")
    assert other.status_code == 401


async def test_the_door_makes_a_watcher_nothing_but_a_module() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        value = dict(scope["headers"])[context.HEADER]
        seen.append(context.verify(KEY, value, audience=CONFIG, now=clock.time()))

    clock = ManualClock()
    door = WatchersDoor(app, watching_key=WATCHER, own_key=KEY, clock=clock)
    value = context.sign(WATCHER, issuer="chat", audience=CONFIG, principal=ADMIN, now=clock.time())
    await door({"type": "http", "path": WATCH, "headers": [(context.HEADER, value)]}, None, None)
    assert (seen[0].issuer, seen[0].principal) == ("chat", Principal(service="chat"))


async def test_a_server_that_ends_takes_no_more_watchers(client: Client) -> None:
    client.parts.shutdown.begin(1.0)
    refused = await client("GET", WATCH, by=Principal(service="chat"), issuer="chat")
    assert refused.status_code == 503


def test_the_manifest_is_complete() -> None:
    assert MANIFEST.service == CONFIG
    for route in MANIFEST.routes:
        assert route.access is Access.ADMIN
        assert route.scope == "admin"
        assert route.summary
        assert (route.body is BodyKind.NONE) == (route.method == "GET")


async def test_migrations_build_the_tables(tmp_path) -> None:
    database = SqliteDatabase(tmp_path / "config.db", CONFIG_MIGRATIONS)
    await database.start()
    async with database.snapshot() as connection:
        compared = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(sync, opts={"compare_type": True}), metadata
            )
        )
    await database.stop()
    assert compared == []
