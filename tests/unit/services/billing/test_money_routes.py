"""Balances, credits and the journal as the gateway sees them; what spenders follow."""

import asyncio

import msgspec
import pytest

from moonpool.contracts.balances import Balances
from moonpool.contracts.config import BillingConfig, ModelConfig, PlatformConfig, TargetConfig
from moonpool.contracts.money import PriceConfig
from moonpool.contracts.usage import TOPIC, Bill, TokenPrice, Usage, UsageEvent
from moonpool.core.principal import Principal
from moonpool.ports.events import Event
from moonpool.services.billing.accounts import Accounts

CREDITS, BALANCE, ENTRIES = "/api/billing/credits", "/api/billing/balance", "/api/billing/entries"
GATEWAY = Principal(service="gateway")


def priced(**billing: object) -> PlatformConfig:
    model = ModelConfig(
        targets=(TargetConfig(url="http://x/v1"),), price=PriceConfig(prompt=2.0, completion=8.0)
    )
    return PlatformConfig(models={"m": model}, billing=BillingConfig(**billing))  # type: ignore[arg-type]


def usage(id: str, tokens: int, source: str = "gw", tenant: str = "org_test") -> Event:
    event = UsageEvent(
        id=id,
        at=1_700_000_000.0,
        user="user_member",
        tenant=tenant,
        key="key_1",
        route="/v1/chat/completions",
        model="m",
        target="tgt",
        release="v1",
        usage=Usage(prompt_tokens=tokens, completion_tokens=tokens),
        streamed=False,
        bill=Bill(TokenPrice(2_000_000, 2_000_000, 8_000_000), source),
    )
    return Event(id, tenant, msgspec.json.encode(event))


@pytest.fixture
async def service(make_parts, run_service):
    return await run_service(await make_parts("billing", config=priced(currency="EUR")))


async def credit(service, admin, status: int = 201, **fields: object) -> dict:
    answer = await service.call("POST", CREDITS, caller=admin, json=fields)
    assert answer.status_code == status, answer.text
    return answer.json()


async def spend(service, id: str, tokens: int, tenant: str = "org_test") -> None:
    await service.parts.events.append(TOPIC, [usage(id, tokens, tenant=tenant)])
    wanted = len(service.parts.events.topics[TOPIC])
    async with asyncio.timeout(5):
        while service.parts.events.committed.get((TOPIC, "billing")) != wanted:
            await asyncio.sleep(0.005)


async def deepseek(service, member) -> dict:
    answer = await service.call("GET", "/user/balance", caller=member)
    assert answer.status_code == 200
    return answer.json()


async def test_the_balance_as_deepseek_has_it(service, admin, member) -> None:
    def info(total: str, granted: str, topped_up: str) -> list[dict]:
        fields = {"total_balance": total, "granted_balance": granted, "topped_up_balance": topped_up}
        return [{"currency": "EUR", **fields}]

    assert await deepseek(service, member) == {
        "is_available": False,
        "balance_infos": info("0.00", "0.00", "0.00"),
    }
    await credit(service, admin, amount="1.00")
    await credit(service, admin, amount="0.05", kind="grant")
    await spend(service, "req_1", 10_000)  # 0.02 for the prompt, 0.08 for the answer
    assert await deepseek(service, member) == {
        "is_available": True,
        "balance_infos": info("0.95", "0.00", "0.95"),
    }


@pytest.mark.parametrize(
    ("config", "available"),
    [
        (priced(), False),
        (priced(overdraft=0.5), True),
        (priced(enforce=False), True),
        (PlatformConfig(), True),
    ],
)
async def test_what_is_free_is_available(make_parts, run_service, member, config, available: bool) -> None:
    service = await run_service(await make_parts("billing", config=config))
    assert (await deepseek(service, member))["is_available"] is available


async def test_account_by_account(service, admin, member) -> None:
    await credit(service, admin, amount="0.05")
    await spend(service, "req_1", 10_000)
    answer = (await service.call("GET", BALANCE, caller=member)).json()
    assert answer == {
        "object": "balance",
        "organisation": "org_test",
        "currency": "EUR",
        "total": "0.00",
        "granted": "0.00",
        "topped_up": "0.00",
        "overdraft": "0.00",
        "available": "0.00",
        "enforced": True,
        "spent": "0.10",
        "uncollected": "0.05",
    }
    report = (await service.call("GET", "/api/billing/usage", caller=member)).json()
    assert (report["currency"], report["totals"]["cost"]) == ("EUR", "0.10")
    assert report["recent"][0]["cost"] == "0.10"


async def test_a_reference_is_booked_once(service, admin) -> None:
    first = await credit(service, admin, amount="1.00", reference="pay_1", note="invoice 7")
    again = await credit(service, admin, 200, amount="1.00", reference="pay_1")
    assert (again["id"], again["repeated"], again["balance"]["total"]) == (first["id"], True, "1.00")
    other = await credit(service, admin, 409, amount="2.00", reference="pay_1")
    assert other["error"]["code"] == "reference_used"
    assert (await credit(service, admin, amount="2.00", kind="grant", reference="pay_1"))["repeated"] is False


async def test_a_credit_is_taken_back_as_far_as_it_is_there(service, admin) -> None:
    await credit(service, admin, amount="1.00")
    taken = await credit(service, admin, amount="-0.40")
    assert taken["balance"]["total"] == "0.60"
    refused = await credit(service, admin, 409, amount="-0.61")
    assert refused["error"]["code"] == "insufficient_balance"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"amount": "much"},
        {"amount": "0"},
        {"amount": 5},
        {"amount": "0.0000000001"},
        {"amount": "1", "kind": "usage"},
        {"amount": "1", "kind": "gift"},
        {"amount": "1_0"},
        {"amount": " 1"},
        {"amount": "1", "organisation": ""},
        {"amount": "1", "reference": ""},
        {"amount": "1", "colour": "red"},
    ],
)
async def test_bad_credits(service, admin, fields) -> None:
    answer = await service.call("POST", CREDITS, caller=admin, json=fields)
    assert answer.status_code == 400, answer.text
    assert (await service.call("GET", ENTRIES, caller=admin)).json()["data"] == []


async def test_only_admins_credit_and_see_others_books(service, admin, member) -> None:
    scoped = msgspec.structs.replace(admin, scopes=("usage",))
    for caller in (member, scoped):
        for method, path in (("POST", CREDITS), ("GET", ENTRIES), ("GET", BALANCE + "?organisation=other")):
            answer = await service.call(method, path, caller=caller, json={"amount": "1"})
            assert answer.status_code == 403
    await spend(service, "req_other", 0, tenant="other")
    await credit(service, admin, amount="3", organisation="other")
    answer = await service.call("GET", BALANCE, caller=admin, params={"organisation": "other"})
    assert (answer.json()["organisation"], answer.json()["total"]) == ("other", "3.00")


async def test_an_organisation_nobody_has_heard_of_has_no_books(service, admin) -> None:
    nope = {"organisation": "nope"}
    for answer in (
        await service.call("POST", CREDITS, caller=admin, json={"amount": "1", **nope}),
        await service.call("GET", BALANCE, caller=admin, params=nope),
        await service.call("GET", ENTRIES, caller=admin, params=nope),
    ):
        assert answer.status_code == 404, answer.text
        said = answer.json()["error"]
        assert (said["code"], said["param"]) == ("organisation_not_found", "organisation")
    own = {"organisation": admin.tenant}
    assert (await service.call("GET", BALANCE, caller=admin, params=own)).status_code == 200
    await credit(service, admin, amount="1", **own)


async def test_the_journal_is_read_page_by_page(service, admin) -> None:
    await credit(service, admin, amount="1.00", note="first")
    await spend(service, "req_1", 1000)
    await credit(service, admin, amount="2.00", kind="grant")
    page = (await service.call("GET", ENTRIES, caller=admin, params={"limit": 2})).json()
    assert [entry["kind"] for entry in page["data"]] == ["grant", "usage"]
    assert page["has_more"]
    assert page["data"][1]["lines"] == [
        {"account": "topped_up", "debit": "0.01", "credit": "0.00"},
        {"account": "revenue", "debit": "0.00", "credit": "0.01"},
    ]
    after = page["data"][-1]["id"]
    rest = (await service.call("GET", ENTRIES, caller=admin, params={"after": after})).json()
    assert [(entry["note"], entry["author"]) for entry in rest["data"]] == [("first", "user_admin")]
    only = (await service.call("GET", ENTRIES, caller=admin, params={"kind": "usage"})).json()
    assert [entry["id"] for entry in only["data"]] == ["req_1"]


async def follow(service, **query: str) -> Balances:
    answer = await service.call("GET", "/internal/balances", caller=GATEWAY, params={"source": "gw", **query})
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Balances)


async def test_spenders_are_told_at_once(service, admin, monkeypatch) -> None:
    monkeypatch.setattr("moonpool.services.billing.routes_money.WAIT", 60.0)
    first = await follow(service)
    assert first.balances == ()
    waiting = asyncio.create_task(follow(service, mark=first.mark))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await credit(service, admin, amount="1.00")
    async with asyncio.timeout(10):
        (told,) = (await waiting).balances
    assert (told.tenant, told.amount, told.posted) == ("org_test", 10**9, 0)


async def test_pages_say_that_there_is_more(service, admin, monkeypatch) -> None:
    monkeypatch.setattr("moonpool.services.billing.accounts.PAGE", 1)
    await credit(service, admin, amount="1.00")
    await spend(service, "req_other", 0, tenant="other")
    await credit(service, admin, amount="1.00", organisation="other")
    first = await follow(service)
    second = await follow(service, mark=first.mark)
    assert [one.tenant for one in (*first.balances, *second.balances)] == ["org_test", "other"]
    assert first.more


async def test_only_processes_of_the_platform_follow(service, admin) -> None:
    answer = await service.call("GET", "/internal/balances", caller=admin, params={"source": "x"})
    assert answer.status_code == 403


async def test_spenders_long_gone_are_forgotten(service) -> None:
    await spend(service, "req_1", 1000)
    assert (await follow(service)).balances[0].posted == 10_000_000
    service.parts.clock.advance(8 * 86_400.0)
    await Accounts.forget(_accounts(service))
    assert (await follow(service)).balances[0].posted == 0


def _accounts(service) -> Accounts:
    from moonpool.services.billing.posting import Posting

    parts = service.parts
    posting = Posting(parts.config.billing, parts.clock)
    return Accounts(parts.database, parts.clock, parts.config, posting, settled=lambda: True)


async def test_a_credit_that_arrives_again_is_booked_once(service, admin) -> None:
    """Without a reference, too: the process was killed before it could answer."""
    body, headers = {"amount": "2.50"}, {"x-request-id": "req_1"}
    first = await service.call("POST", CREDITS, caller=admin, json=body, headers=headers)
    again = await service.call("POST", CREDITS, caller=admin, json=body, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.json()["balance"]["total"] == "2.50"
    other = await service.call("POST", CREDITS, caller=admin, json=body, headers={"x-request-id": "req_2"})
    assert other.json()["balance"]["total"] == "5.00"
