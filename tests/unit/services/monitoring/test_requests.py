"""Records: from the event log into lists, one by one, and figures."""

import asyncio
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from moonpool.core.principal import Principal, Role
from moonpool.ports.events import Event
from moonpool.services.monitoring.collector import GROUP, PRUNE_EVERY, Collector
from moonpool.services.monitoring.schema import Filters
from moonpool.services.monitoring.store import Store

OTHER = Principal(user="user_o", tenant="org_other", role=Role.OWNER)


async def stored(service: Any, id: str, admin: Principal) -> Any:
    """The answer about a record once it has arrived."""
    async with asyncio.timeout(3.0):
        while (answer := await service.call("GET", f"/admin/requests/{id}", caller=admin)).status_code == 404:
            await asyncio.sleep(0.01)
    return answer


async def ids(service: Any, admin: Principal, query: str = "") -> list[str]:
    answer = await service.call("GET", f"/api/monitoring/requests{query}", caller=admin)
    assert answer.status_code == 200, answer.text
    return [line["id"] for line in answer.json()["data"]]


async def test_a_published_record_can_be_read(monitoring: Any, kit: Any, admin: Principal) -> None:
    await kit.publish(monitoring.parts, kit.record("req_1", flags=("URX",)))
    answer = await stored(monitoring, "req_1", admin)
    body = answer.json()
    assert body["decisions"] == [{"filter": "retry", "verdict": "attempt", "reason": "first", "at_ms": 1.0}]
    assert body["attempts"][0]["endpoint"] == "unix:/x"
    assert body["flags"] == ["URX"]


async def test_an_unknown_request_is_told_so(monitoring: Any, admin: Principal) -> None:
    answer = await monitoring.call("GET", "/admin/requests/req_none", caller=admin)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "request_not_found"


@pytest.mark.parametrize(
    "path",
    ["/api/monitoring/requests", "/api/monitoring/summary", "/api/monitoring/health", "/admin/requests/x"],
)
async def test_members_see_nothing(monitoring: Any, member: Principal, path: str) -> None:
    assert (await monitoring.call("GET", path, caller=member)).status_code == 403


async def test_the_list_filters_and_pages(monitoring: Any, kit: Any, admin: Principal) -> None:
    store = Store(monitoring.parts.database)
    await store.add(
        [
            kit.record("a", at=kit.START),
            kit.record("b", at=kit.START + 1, status=503, flags=("UH", "DG")),
            kit.record("c", at=kit.START + 1, status=404, route="/v1/models"),
            kit.record("d", at=kit.START + 3, user="user_2"),
        ]
    )
    assert await ids(monitoring, admin) == ["d", "c", "b", "a"]
    assert await ids(monitoring, admin, "?status=5xx") == ["b"]
    assert await ids(monitoring, admin, "?status=404") == ["c"]
    assert await ids(monitoring, admin, "?flag=DG") == ["b"]
    assert await ids(monitoring, admin, "?route=/v1/models") == ["c"]
    assert await ids(monitoring, admin, "?user=user_2") == ["d"]
    assert await ids(monitoring, admin, "?limit=2&after=d") == ["c", "b"]
    assert await ids(monitoring, admin, "?after=a") == []
    assert (await monitoring.call("GET", "/api/monitoring/requests?limit=2", caller=admin)).json()["has_more"]


@pytest.mark.parametrize("query", ["status=teapot", "status=6xx", "flag=XX", "limit=0", "after=none"])
async def test_bad_filters_are_refused(monitoring: Any, admin: Principal, query: str) -> None:
    answer = await monitoring.call("GET", f"/api/monitoring/requests?{query}", caller=admin)
    assert answer.status_code in {400, 404}
    assert "error" in answer.json()


async def test_tenants_see_their_own_and_nobodys(monitoring: Any, kit: Any, admin: Principal) -> None:
    store = Store(monitoring.parts.database)
    await store.add([kit.record("ours"), kit.record("nobodys", tenant="", status=401)])
    assert await ids(monitoring, admin) == ["ours", "nobodys"]
    assert await ids(monitoring, OTHER) == ["nobodys"]
    assert (await monitoring.call("GET", "/admin/requests/ours", caller=OTHER)).status_code == 404


async def test_the_summary_is_of_the_last_minutes(monitoring: Any, kit: Any, admin: Principal) -> None:
    store = Store(monitoring.parts.database)
    recent = [kit.record(f"r{n}", duration_ms=float(n), first_byte_ms=None) for n in range(18)]
    failed = [kit.record(f"f{n}", status=500, flags=("UH",), duration_ms=100.0) for n in range(2)]
    await store.add([*recent, *failed, kit.record("old", at=kit.START - 301, status=500)])
    body = (await monitoring.call("GET", "/api/monitoring/summary?minutes=5", caller=admin)).json()
    assert (body["requests"], body["requests_per_minute"]) == (20, 4.0)
    assert (body["errors"], body["error_share"]) == (2, 0.1)
    assert body["duration"] == {"p50_ms": 10.0, "p95_ms": 100.0}
    assert body["first_byte"] == {"p50_ms": 5.0, "p95_ms": 5.0}
    assert body["flags"] == {"UH": 2}


async def test_a_summary_of_nothing(monitoring: Any, admin: Principal) -> None:
    body = (await monitoring.call("GET", "/api/monitoring/summary", caller=admin)).json()
    assert (body["requests"], body["error_share"], body["duration"]["p50_ms"]) == (0, 0.0, None)


async def test_repetitions_and_rubbish_do_not_stop_the_rest(make_parts: Any, kit: Any) -> None:
    parts = await make_parts("monitoring")
    store = Store(parts.database)
    collector = Collector(store, parts.events, parts.clock, structlog.get_logger(), CollectorRegistry())
    await kit.publish(parts, kit.record("a"), kit.record("a", status=500))
    await parts.events.append("requests", [Event("x", "x", b"rubbish")])
    await kit.publish(parts, kit.record("b"), kit.record("a", status=503))
    async with parts.events.consumer("requests", GROUP) as consumer:
        await collector.collect(consumer, wait=0.01)
        await collector.collect(consumer, wait=0.01)
    lines, _ = await store.recent("org_test", Filters(), limit=9, after=None)
    assert [(line.id, line.status) for line in lines] == [("b", 200), ("a", 503)]
    assert await parts.events.lag("requests", GROUP) == 0


async def test_retention_by_rows_and_by_age(make_parts: Any, kit: Any) -> None:
    parts = await make_parts("monitoring")
    store = Store(parts.database)
    collector = Collector(
        store,
        parts.events,
        parts.clock,
        structlog.get_logger(),
        CollectorRegistry(),
        keep_rows=3,
        keep_seconds=100.0,
    )
    await store.add([kit.record(f"r{n}", at=kit.START + n) for n in range(5)])

    async def left() -> list[str]:
        return [line.id for line in (await store.recent("org_test", Filters(), limit=9, after=None))[0]]

    await collector.prune()
    assert await left() == ["r4", "r3", "r2"]
    parts.clock.advance(PRUNE_EVERY / 2)
    await store.add([kit.record(f"s{n}", at=kit.START + 10 + n) for n in range(3)])
    await collector.prune()
    assert len(await left()) == 6
    parts.clock.advance(52 + PRUNE_EVERY)
    await store.prune(before=kit.START + 11.5, keep=100)
    assert await left() == ["s2"]
