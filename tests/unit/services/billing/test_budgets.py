"""Budgets of keys: what auth grants is told to those who spend, with what was spent of it."""

import asyncio

import msgspec
import pytest

from moonpool.contracts.balances import Balances
from moonpool.contracts.budgets import Budget, KeyBudget, Period, SetBudget
from moonpool.contracts.usage import TOPIC, Bill, TokenPrice, Usage, UsageEvent
from moonpool.core.principal import Principal, Role
from moonpool.ports.events import Event

DAY = 86_400
TODAY = 1_700_006_400
GATEWAY, AUTH = Principal(service="gateway"), Principal(service="auth")
UNIT = 10**9


def budget(amount: int | None, period: Period = Period.DAY, key: str = "key_1", **more: object) -> SetBudget:
    granted = None if amount is None else Budget(amount=amount, period=period)
    return SetBudget(key=key, tenant="org_test", user="user_member", budget=granted, **more)  # type: ignore[arg-type]


def usage(id: str, units: int, *, at: float = TODAY + 60.0, source: str = "gw", **who: str) -> Event:
    """Costs `units` of the currency."""
    fields = {"user": "user_member", "tenant": "org_test", "key": "key_1", **who}
    event = UsageEvent(
        id=id,
        at=at,
        route="/v1/chat/completions",
        model="m",
        target="tgt",
        release="v1",
        usage=Usage(prompt_tokens=units * 100),
        streamed=False,
        bill=Bill(TokenPrice(UNIT * 10, 0, 0), source),
        **fields,
    )
    return Event(id, event.tenant, msgspec.json.encode(event))


@pytest.fixture
async def service(make_parts, run_service):
    parts = await make_parts("billing")
    parts.clock.advance(TODAY + 60.0 - parts.clock.time())
    return await run_service(parts)


async def grant(service, wish: SetBudget, issuer: str = "auth", status: int = 200) -> None:
    answer = await service.call(
        "POST",
        "/internal/budgets",
        caller=Principal(service=issuer),
        issuer=issuer,
        content=msgspec.json.encode(wish),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == status, answer.text


async def spend(service, *events: Event) -> None:
    await service.parts.events.append(TOPIC, list(events))
    wanted = len(service.parts.events.topics[TOPIC])
    async with asyncio.timeout(5):
        while service.parts.events.committed.get((TOPIC, "billing")) != wanted:
            await asyncio.sleep(0.01)


async def told(service, mark: str = "", source: str = "gw") -> Balances:
    answer = await service.call(
        "GET", "/internal/balances", caller=GATEWAY, issuer="gateway", params={"source": source, "mark": mark}
    )
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Balances)


async def listed(service, caller: Principal) -> list[dict]:
    answer = await service.call("GET", "/api/billing/budgets", caller=caller)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_what_was_spent_is_told_with_how_much_of_it_was_ones_own(service) -> None:
    await grant(service, budget(5 * UNIT, new=True))
    first = await told(service)
    assert first.budgets == (KeyBudget("key_1", 5 * UNIT, Period.DAY, TODAY, 0, 0),)
    await spend(service, usage("a", 2), usage("b", 1, source="other"), usage("c", 1, key="key_2"))
    second = await told(service, first.mark)
    assert second.budgets == (KeyBudget("key_1", 5 * UNIT, Period.DAY, TODAY, 3 * UNIT, 2 * UNIT),)
    assert second.balances[0].tenant == "org_test"
    await spend(service, usage("a", 2))  # again: it is known
    (again,) = (await told(service, "", source="other")).budgets
    assert (again.spent, again.posted) == (3 * UNIT, UNIT)


async def test_nothing_new_is_not_told_again(service) -> None:
    await grant(service, budget(5 * UNIT))
    first = await told(service)
    service.parts.clock.advance(1.0)
    waiting = asyncio.create_task(told(service, first.mark))
    await asyncio.sleep(0)
    assert (await waiting).budgets == ()


async def test_a_follower_of_the_release_before_is_told_all_budgets(service) -> None:
    await grant(service, budget(5 * UNIT))
    before = (await told(service)).mark.partition("\n")[0]
    assert len((await told(service, before)).budgets) == 1


async def test_a_new_day_begins_anew_and_what_comes_late_counts_for_nothing(service, admin) -> None:
    await grant(service, budget(5 * UNIT))
    await spend(service, usage("a", 2))
    service.parts.clock.advance(DAY)
    (view,) = await listed(service, admin)
    assert (view["spent"], view["left"], view["renews_at"]) == ("0.00", "5.00", TODAY + 2 * DAY)
    await spend(service, usage("b", 1, at=TODAY + DAY + 1.0), usage("late", 2, at=TODAY + DAY - 1.0))
    (now,) = (await told(service)).budgets
    assert (now.since, now.spent, now.posted) == (TODAY + DAY, UNIT, UNIT)
    (view,) = await listed(service, admin)
    assert (view["spent"], view["left"]) == ("1.00", "4.00")


async def test_a_budget_that_is_set_later_counts_what_was_spent_before(service) -> None:
    await spend(service, usage("old", 2, at=TODAY - DAY), usage("a", 1), usage("b", 1, tenant="org_other"))
    await grant(service, budget(5 * UNIT))
    (day,) = (await told(service)).budgets
    assert (day.spent, day.posted) == (UNIT, 0)
    await spend(service, usage("c", 1))
    await grant(service, budget(9 * UNIT, Period.TOTAL))
    (total,) = (await told(service)).budgets
    assert total == KeyBudget("key_1", 9 * UNIT, Period.TOTAL, 0, 4 * UNIT, 0)


async def test_none_is_told_as_well(service, admin) -> None:
    await grant(service, budget(5 * UNIT))
    mark = (await told(service)).mark
    await grant(service, budget(None))
    assert [one.amount for one in (await told(service, mark)).budgets] == [None]
    assert await listed(service, admin) == []


async def test_another_organisations_usage_under_the_same_key_does_not_count(service) -> None:
    await grant(service, budget(5 * UNIT))
    await spend(service, usage("a", 2, tenant="org_other"))
    assert (await told(service)).budgets[0].spent == 0


async def test_who_sees_which(service, admin, member) -> None:
    await grant(service, budget(5 * UNIT))
    other = SetBudget(
        key="key_9", tenant="org_test", user="user_admin", budget=Budget(amount=1, period=Period.TOTAL)
    )
    await grant(service, other)
    assert [one["key"] for one in await listed(service, admin)] == ["key_9", "key_1"]
    (own,) = await listed(service, member)
    assert (own["key"], own["amount"], own["currency"], own["period"], own["enforced"]) == (
        "key_1", "5.00", "USD", "day", True,
    )  # fmt: skip
    assert await listed(service, Principal(user="user_admin", tenant="org_other", role=Role.OWNER)) == []


async def test_only_auth_grants(service) -> None:
    await grant(service, budget(5 * UNIT), issuer="chat", status=403)
    answer = await service.call("POST", "/internal/budgets", json=msgspec.to_builtins(budget(1)))
    assert answer.status_code == 403
