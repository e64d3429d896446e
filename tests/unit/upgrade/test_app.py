"""The manager's HTTP surface: what its manifest declares, who may, and how faults are told."""

import asyncio
import re

import httpx
import msgspec
import pytest
import structlog
from prometheus_client import CollectorRegistry

from harness.odd_requests import odd_requests
from moonpool.asgi.parts import Parts
from moonpool.contracts import context
from moonpool.contracts.clients import Clients
from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.release_stats import TOPIC
from moonpool.contracts.upgrades import UpgradeView
from moonpool.core.principal import Principal, Role
from moonpool.ports.events import Delivered, Event
from moonpool.upgrade import routes
from moonpool.upgrade.app import Setup, create
from moonpool.upgrade.manifest import MANIFEST, UPGRADE

ADMIN = Principal(user="user_admin", tenant="org", key="", role=Role.ADMIN)
MEMBER = Principal(user="user_member", tenant="org", key="", role=Role.MEMBER)
KEY = b"the key that signs contexts in tests"


class Events:
    """One consumer, that gets what `tell` puts into it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Delivered] = asyncio.Queue()
        self.commits = 0

    def tell(self, report: object) -> None:
        event = Event("rst_1", "gateway", msgspec.json.encode(report))
        self.queue.put_nowait(Delivered(TOPIC, 0, 0, 0.0, event))

    async def ping(self) -> None: ...

    def consumer(self, topic: str, group: str, *, from_end: bool = False) -> "Events":
        assert (topic, from_end) == (TOPIC, True)
        return self

    async def __aenter__(self) -> "Events":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def poll(self, *, limit: int = 500, wait: float = 1.0) -> list[Delivered]:
        return [await self.queue.get()]

    async def commit(self) -> None:
        self.commits += 1


class Module:
    def __init__(self, stage, app, events: Events) -> None:
        self.stage, self.app, self.events = stage, app, events
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://upgrade")

    async def call(self, method: str, path: str, body: object = None, caller: Principal = ADMIN, raw=None):
        now = self.stage.clock.time()
        signed = context.sign(KEY, issuer="gateway", audience=UPGRADE, principal=caller, now=now)
        headers = {context.HEADER.decode(): signed.decode(), "content-type": "application/json"}
        content = raw if body is None else msgspec.json.encode(body)
        return await self.client.request(method, path, headers=headers, content=content)

    async def until(self, phase: str) -> UpgradeView:
        for _ in range(2000):
            view = (await self.call("GET", "/admin/upgrades/chat")).json()
            if view["phase"] == phase:
                return msgspec.convert(view, UpgradeView)
            self.stage.clock.advance(0.5)
            await asyncio.sleep(0.002)
        raise AssertionError(view)


@pytest.fixture
async def module(stage, monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr("moonpool.upgrade.manager.ROUND", 0.002)
    events = Events()
    parts = Parts(
        manifest=MANIFEST,
        release="v1",
        instance="upgrade-0",
        config=PlatformConfig(),
        data=tmp_path,
        database=stage.store._database,
        events=events,  # type: ignore[arg-type]
        cache=None,  # type: ignore[arg-type]
        objects=None,  # type: ignore[arg-type]
        clients=Clients(),
        clock=stage.clock,
        metrics=CollectorRegistry(),
        log=structlog.get_logger(),
        context_key=KEY,
        secrets={},
    )
    app = create(parts, Setup(fleet=stage.fleet, documents=stage.documents))
    to_app, from_app = asyncio.Queue(), asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.3"}, "state": {}}
    task = asyncio.create_task(app(scope, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    assert (await from_app.get())["type"] == "lifespan.startup.complete"
    yield Module(stage, app, events)
    await to_app.put({"type": "lifespan.shutdown"})
    await from_app.get()
    await task


async def test_the_application_serves_its_manifest(module: Module) -> None:
    litestar = module.app._app
    while not hasattr(litestar, "routes"):
        litestar = litestar.app
    served = {
        (method, re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path))
        for route in litestar.routes
        for method in route.methods
        if method != "OPTIONS" and route.path.startswith("/admin/")
    }
    assert served == {(route.method, route.path) for route in MANIFEST.routes}


async def test_an_upgrade_from_start_to_end(module: Module) -> None:
    plan = {"strategy": "blue-green", "keep_old_seconds": 1, "observe_seconds": 1}
    started = await module.call("POST", "/admin/upgrades", {"service": "chat", "to": "v2", "plan": plan})
    assert started.status_code == 201
    assert started.json()["started_by"] == "user_admin"

    view = await module.until("done")

    assert view.outcome == "promoted"
    page = (await module.call("GET", "/admin/upgrades?service=chat")).json()
    assert [one["id"] for one in page["data"]] == [view.id]
    history = (await module.call("GET", f"/admin/upgrades/history?upgrade={view.id}&limit=2")).json()
    assert [one["what"] for one in history["data"]] == ["done", "observe"]
    after = history["data"][-1]["id"]
    rest = (await module.call("GET", f"/admin/upgrades/history?after={after}")).json()
    assert rest["data"][0]["what"] == "drain"
    assert rest["data"][-1]["who"] == "user_admin"
    releases = (await module.call("GET", "/admin/releases?service=chat")).json()["data"]
    assert [(one["label"], one["ready"]) for one in releases] == [("v2", 2)]
    experiment = (await module.call("GET", f"/admin/upgrades/{view.id}/experiment")).json()
    assert experiment["recommendation"] == "wait"


async def test_what_gateways_tell_is_counted_and_committed(module: Module) -> None:
    await module.call("POST", "/admin/upgrades", {"service": "chat", "to": "v2", "plan": {"steps": [50]}})
    await module.until("canary")

    module.events.tell({"not": "a report"})
    module.events.tell(module.stage.report(old=5, new=4))

    for _ in range(500):
        await asyncio.sleep(0.002)
        if module.events.commits == 2:
            break
    assert (await module.until("canary")).new.numbers.requests == 4
    id = (await module.until("canary")).id
    assert b'"ended":4' in (await module.stage.store.load_evidence(id) or b"")


async def test_a_watch_tells_every_change_to_the_end(module: Module) -> None:
    plan = {"strategy": "rolling", "soak_seconds": 0, "observe_seconds": 0}
    await module.call("POST", "/admin/upgrades", {"service": "chat", "to": "v2", "plan": plan})
    following = asyncio.create_task(module.call("GET", "/admin/upgrades/watch?name=chat"))
    await module.until("done")

    told = (await asyncio.wait_for(following, 5)).text

    views = [msgspec.json.decode(line[6:]) for line in told.split("\n\n") if line.startswith("data: ")]
    assert views[-1]["phase"] == "done"
    assert len(views) > 2


async def test_a_watch_without_an_end_holds_no_gateway(
    module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "BEAT", 0.005)
    following = asyncio.create_task(module.call("GET", "/admin/upgrades/watch"))
    await asyncio.sleep(0.02)
    assert not following.done()
    module.stage.clock.advance(routes.WATCH + 1)
    assert (await asyncio.wait_for(following, 5)).text.startswith(": nothing new")


@pytest.mark.parametrize(
    ("body", "status", "param", "message"),
    [
        ({"service": "chat", "to": "v9"}, 409, None, "no release chat@v9"),
        ({"service": "chat", "to": "v2", "plan": {"steps": [5, 2]}}, 422, "steps[1]", "2 % is not above"),
        ({"service": "chat", "to": "v2", "plan": {"strategy": "yolo"}}, 400, None, "yolo"),
        ({"service": "chat", "to": "v2", "plan": {"soak": 5}}, 400, None, "soak"),
        ({"to": "v2"}, 400, None, "service"),
    ],
)
async def test_faults_are_told(module: Module, body, status: int, param, message: str) -> None:
    answer = await module.call("POST", "/admin/upgrades", body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert message in str(error)
    if param:
        assert error["param"] == param
    assert (await module.call("GET", "/admin/upgrades")).json()["data"] == []


async def test_words_and_unknown_names(module: Module) -> None:
    assert (await module.call("POST", "/admin/upgrades/chat/pause", {})).status_code == 404
    assert (await module.call("POST", "/admin/upgrades/chat/rollback", {})).status_code == 409
    assert (await module.call("GET", "/admin/upgrades/up_0")).status_code == 404
    await module.call("POST", "/admin/upgrades", {"service": "chat", "to": "v2"})
    assert (await module.call("POST", "/admin/upgrades/chat/resume", {})).status_code == 409
    told = await module.call("POST", "/admin/upgrades/chat/abort", {"reason": "no"})
    assert told.json()["phase"] == "rolling_back"


async def test_only_admins(module: Module) -> None:
    for route in MANIFEST.routes:
        path = route.path.replace("{name}", "chat")
        body = {"service": "chat", "to": "v2"} if path == "/admin/upgrades" else {}
        answer = await module.call(route.method, path, body if route.method == "POST" else None, MEMBER)
        assert answer.status_code == 403, path


async def test_no_request_is_a_failure_of_the_manager(module) -> None:
    description = (await module.call("GET", "/internal/openapi.json")).json()
    del description["paths"]["/admin/upgrades/watch"]  # half a minute for each
    for odd in odd_requests(description, {}):
        answer = await module.call(odd.method, odd.path, raw=odd.body)
        assert answer.status_code < 500, odd
