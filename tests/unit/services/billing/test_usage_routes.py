"""billing as the gateway sees it."""

import asyncio

import msgspec
import pytest

from moonpool.contracts.usage import TOPIC, Usage, UsageEvent
from moonpool.core.principal import Principal, Role
from moonpool.ports.events import Event

USAGE = "/api/billing/usage"
DAY = 86_400.0
TODAY = 1_699_920_000.0  # 2023-11-14 00:00 UTC, the day that ManualClock starts on


def event(
    number: int, *, user: str = "user_member", tenant: str = "org_test", model: str = "m", at: float = TODAY
) -> UsageEvent:
    return UsageEvent(
        id=f"req_{number}",
        at=at + number,
        user=user,
        tenant=tenant,
        key="key_1",
        route="/v1/chat/completions",
        model=model,
        target="tgt",
        release="v1",
        usage=Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=5, reasoning_tokens=1),
        streamed=True,
    )


@pytest.fixture
async def service(make_parts, run_service):
    parts = await make_parts("billing")
    events = [
        event(0),
        event(1, model="n"),
        event(2, at=TODAY - DAY),
        event(3, user="user_other"),
        event(4, tenant="org_other"),
        event(5, at=TODAY - 100 * DAY),
    ]
    parts.events.topics[TOPIC] = [Event(each.id, each.tenant, msgspec.json.encode(each)) for each in events]
    service = await run_service(parts)
    async with asyncio.timeout(5):
        while parts.events.committed.get((TOPIC, "billing")) != len(events):
            await asyncio.sleep(0.005)
    return service


async def usage(service, caller: Principal, **query: object) -> dict:
    answer = await service.call("GET", USAGE, caller=caller, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_member_sees_his_own(service, member) -> None:
    report = await usage(service, member)
    assert report["object"] == "usage"
    assert report["totals"] == {
        "requests": 3,
        "prompt_tokens": 30,
        "cached_tokens": 12,
        "completion_tokens": 15,
        "reasoning_tokens": 3,
        "total_tokens": 45,
        "cost": "0.00",
    }
    assert [(row["day"], row["model"], row["requests"]) for row in report["data"]] == [
        ("2023-11-14", "m", 1),
        ("2023-11-14", "n", 1),
        ("2023-11-13", "m", 1),
    ]
    assert "user" not in report["data"][0]
    assert [each["id"] for each in report["recent"]] == ["req_1", "req_0", "req_2"]
    assert report["has_more"] is False


async def test_an_admin_sees_the_organisation(service, admin) -> None:
    report = await usage(service, admin, group_by="user")
    assert [(row["user"], row["requests"]) for row in report["data"]] == [
        ("user_member", 3),
        ("user_other", 1),
    ]
    assert report["group_by"] == ["user"]


async def test_an_admins_scoped_key_sees_his_own(service, admin) -> None:
    scoped = msgspec.structs.replace(admin, scopes=("usage",))
    assert (await usage(service, scoped))["totals"]["requests"] == 0


async def test_time_spans(service, member) -> None:
    assert (await usage(service, member, after=TODAY))["totals"]["requests"] == 2
    assert (await usage(service, member, after=0, before=TODAY))["totals"]["requests"] == 2
    assert (await usage(service, member, after=TODAY + 1, before=TODAY + 2))["totals"]["requests"] == 1
    assert (await usage(service, member, after=0, before=10))["totals"]["requests"] == 0


async def test_recent_events_are_cut(service, member) -> None:
    report = await usage(service, member, limit=2)
    assert [each["id"] for each in report["recent"]] == ["req_1", "req_0"]
    assert report["has_more"] is True
    older = await usage(service, member, limit=2, after=0, before=report["recent"][-1]["at"])
    assert [each["id"] for each in older["recent"]] == ["req_2", "req_5"]


async def test_one_request(service, member, admin) -> None:
    answer = await service.call("GET", f"{USAGE}/req_1")
    assert answer.status_code == 200
    assert (answer.json()["model"], answer.json()["total_tokens"]) == ("n", 15)
    assert (await service.call("GET", f"{USAGE}/req_3", caller=admin)).status_code == 200
    for number, caller in ((3, member), (4, member), (4, admin), (99, admin)):
        hidden = await service.call("GET", f"{USAGE}/req_{number}", caller=caller)
        assert hidden.status_code == 404
        assert hidden.json()["error"]["code"] == "usage_not_found"


@pytest.mark.parametrize(
    "query",
    [
        {"group_by": "weather"},
        {"group_by": ""},
        {"after": "yesterday"},
        {"after": "-1"},
        {"after": "nan"},
        {"before": "inf"},
        {"after": "20", "before": "10"},
        {"limit": "101"},
        {"limit": "-1"},
    ],
)
async def test_bad_queries(service, query) -> None:
    answer = await service.call("GET", USAGE, params=query)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]


async def test_reports_are_bounded(service, admin, monkeypatch) -> None:
    from moonpool.services.billing import service as domain

    monkeypatch.setattr(domain, "MOST_GROUPS", 2)
    answer = await service.call("GET", USAGE, caller=admin)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "too_many_groups"


async def test_without_the_log_reports_go_on_and_readiness_says_so(service, member) -> None:
    service.parts.events.away = True
    assert (await usage(service, member))["totals"]["requests"] == 3
    async with asyncio.timeout(5):
        while "ok" in (ready := (await service.client.get("/readyz")).json())["checks"]["counting"]:
            await asyncio.sleep(0.01)
    assert ready["status"] == "degraded"


async def test_a_service_has_no_usage(service) -> None:
    nobody = Principal(service="chat", role=Role.OWNER)
    assert (await service.call("GET", USAGE, caller=nobody)).status_code == 403
