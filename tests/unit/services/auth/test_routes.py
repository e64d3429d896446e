"""auth as the gateway sees it."""

import asyncio

import msgspec
import pytest

from moonpool.contracts.auth import REVOCATIONS, Verdict
from moonpool.contracts.budgets import Budget, Period, SetBudget
from moonpool.contracts.catalogue import Catalogue, Model
from moonpool.contracts.clients import Clients
from moonpool.contracts.usage import TokenPrice
from moonpool.core.errors import Unavailable
from moonpool.core.principal import KeyLimits, Principal, Role

KEYS = "/api/auth/keys"


@pytest.fixture
async def service(make_parts, run_service):
    return await run_service(await make_parts("auth"))


async def verify(service, key: str, issuer: str = "gateway") -> Verdict:
    answer = await service.call(
        "POST", "/internal/verify", caller=Principal(service=issuer), issuer=issuer, json={"key": key}
    )
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Verdict)


@pytest.fixture
async def owner(service) -> Principal:
    """The admin of the first start, by way of the key in the file."""
    verdict = await verify(service, (service.parts.data / "admin.key").read_text().strip())
    assert verdict.principal is not None
    return verdict.principal


async def create(service, caller: Principal, **wish: object) -> dict:
    answer = await service.call("POST", KEYS, caller=caller, json=wish)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def principal(service, caller: Principal, **wish: object) -> Principal:
    """Who calls with a new key."""
    verdict = await verify(service, (await create(service, caller, **wish))["key"])
    assert verdict.principal is not None
    return verdict.principal


def error(answer) -> dict:
    return answer.json()["error"]


async def test_the_file_holds_the_owners_key(owner) -> None:
    assert owner.role is Role.OWNER
    assert owner.user.startswith("user_")
    assert owner.tenant.startswith("org_")
    assert owner.key.startswith("key_")
    assert owner.may("admin")


async def test_a_new_key_is_shown_once_and_works(service, owner) -> None:
    answer = await service.call(
        "POST",
        KEYS,
        caller=owner,
        json={"name": "laptop", "scopes": ["chat"], "limits": {"concurrent": 3}},
    )
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    assert made["object"] == "api_key"
    assert made["role"] == "member"

    verdict = await verify(service, made["key"])
    assert verdict.principal == Principal(
        user=owner.user,
        tenant=owner.tenant,
        key=made["id"],
        role=Role.MEMBER,
        scopes=("chat",),
        limits=KeyLimits(concurrent=3),
    )
    listed = await service.call("GET", KEYS, caller=owner)
    assert "key" not in listed.json()["data"][0]
    assert made["key"].rsplit("-", 1)[1] not in listed.text


async def test_the_secret_is_nowhere_on_disk(service, owner) -> None:
    secret = (await create(service, owner))["key"].rsplit("-", 1)[1].encode()
    files = [path for path in (service.parts.data / "db").iterdir() if path.is_file()]
    assert files
    assert not any(secret in path.read_bytes() for path in files)


@pytest.mark.parametrize("text", ["", "sk-other", "sk-mp-" + "0" * 26 + "-" + "0" * 32])
async def test_an_unknown_key(service, text) -> None:
    verdict = await verify(service, text)
    assert verdict.principal is None
    assert verdict.reason == "unknown"


async def test_a_wrong_secret_tells_nothing_about_the_key(service, owner) -> None:
    made = await create(service, owner)
    await service.call("DELETE", f"{KEYS}/{made['id']}", caller=owner)
    assert (await verify(service, made["key"])).reason == "revoked"
    assert (await verify(service, made["key"][:-5] + "00000")).reason == "unknown"


async def test_a_key_expires(service, owner) -> None:
    now = service.parts.clock.time()
    made = await create(service, owner, expires_at=now + 60)
    verdict = await verify(service, made["key"])
    assert verdict.expires_at == now + 60
    service.parts.clock.advance(60)
    verdict = await verify(service, made["key"])
    assert verdict.principal is None
    assert verdict.reason == "expired"


async def test_revocation_is_at_once_and_announced(service, owner) -> None:
    made = await create(service, owner)
    answer = await service.call("DELETE", f"{KEYS}/{made['id']}", caller=owner)
    assert answer.json() == {"id": made["id"], "object": "api_key", "deleted": True}
    assert (await verify(service, made["key"])).reason == "revoked"
    await asyncio.wait_for(service.parts.events.appended.wait(), 5)
    assert [event.key for event in service.parts.events.topics[REVOCATIONS]] == [made["id"]]
    again = await service.call("DELETE", f"{KEYS}/{made['id']}", caller=owner)
    assert again.status_code == 200


async def test_a_revocation_outlives_log_and_process(make_parts, run_service, service, owner) -> None:
    service.parts.events.away = True
    made = await create(service, owner)
    answer = await service.call("DELETE", f"{KEYS}/{made['id']}", caller=owner)
    assert answer.status_code == 200

    restarted = await run_service(await make_parts("auth"))
    await asyncio.wait_for(restarted.parts.events.appended.wait(), 5)
    assert [event.key for event in restarted.parts.events.topics[REVOCATIONS]] == [made["id"]]


async def test_a_member_sees_and_revokes_own_keys_only(service, owner) -> None:
    member = await principal(service, owner, name="member")
    own = await create(service, member, name="own")
    listed = (await service.call("GET", KEYS, caller=member)).json()["data"]
    assert {key["id"] for key in listed} == {member.key, own["id"]}  # not the owner's, above him

    refused = await service.call("DELETE", f"{KEYS}/{owner.key}", caller=member)
    assert refused.status_code == 403
    stranger = Principal(user="user_x", tenant=owner.tenant, role=Role.MEMBER)
    assert (await service.call("DELETE", f"{KEYS}/{own['id']}", caller=stranger)).status_code == 404
    assert (await service.call("GET", KEYS, caller=stranger)).json()["data"] == []
    assert (await service.call("DELETE", f"{KEYS}/{own['id']}", caller=member)).status_code == 200


async def test_organisations_are_separate(service, owner) -> None:
    made = await create(service, owner)
    elsewhere = Principal(user="user_x", tenant="org_elsewhere", role=Role.OWNER)
    assert (await service.call("GET", KEYS, caller=elsewhere)).json()["data"] == []
    answer = await service.call("DELETE", f"{KEYS}/{made['id']}", caller=elsewhere)
    assert answer.status_code == 404
    assert error(answer)["code"] == "key_not_found"


async def test_nobody_grants_more_than_he_has(service, owner) -> None:
    member = await principal(service, owner)
    answer = await service.call("POST", KEYS, caller=member, json={"role": "admin"})
    assert answer.status_code == 403
    assert error(answer)["param"] == "role"

    now = service.parts.clock.time()
    brief = await principal(service, owner, expires_at=now + 60)
    answer = await service.call("POST", KEYS, caller=brief, json={"expires_at": now + 61})
    assert answer.status_code == 403
    heir = await create(service, brief)
    assert heir["expires_at"] == now + 60


async def test_a_revoked_key_that_a_gateway_still_lets_in_makes_no_keys(service, owner) -> None:
    member = await principal(service, owner)
    await service.call("DELETE", f"{KEYS}/{member.key}", caller=owner)
    assert (await service.call("POST", KEYS, caller=member, json={})).status_code == 401


async def test_the_last_owner_key_stays(service, owner) -> None:
    answer = await service.call("DELETE", f"{KEYS}/{owner.key}", caller=owner)
    assert answer.status_code == 409
    assert error(answer)["code"] == "last_owner_key"
    await create(service, owner, role="owner", scopes=["admin"])  # scoped: cannot do everything
    assert (await service.call("DELETE", f"{KEYS}/{owner.key}", caller=owner)).status_code == 409
    await create(service, owner, role="owner")
    assert (await service.call("DELETE", f"{KEYS}/{owner.key}", caller=owner)).status_code == 200


async def test_lists_are_cut_into_pages(service, owner) -> None:
    made = []
    for number in range(5):
        service.parts.clock.advance(1)
        made.append((await create(service, owner, name=f"k{number}"))["id"])
    seen: list[str] = []
    query = {"limit": "2"}
    while True:
        page = (await service.call("GET", KEYS, caller=owner, params=query)).json()
        seen += [key["id"] for key in page["data"]]
        if not page["has_more"]:
            break
        query["after"] = seen[-1]
    assert seen == [*reversed(made), owner.key]


async def test_revoked_keys_are_listed_on_request(service, owner) -> None:
    made = await create(service, owner)
    await service.call("DELETE", f"{KEYS}/{made['id']}", caller=owner)
    plain = (await service.call("GET", KEYS, caller=owner)).json()["data"]
    full = (await service.call("GET", KEYS, caller=owner, params={"include_revoked": "true"})).json()
    assert {key["id"] for key in full["data"]} - {key["id"] for key in plain} == {made["id"]}
    assert {key["id"]: key["status"] for key in full["data"]}[made["id"]] == "revoked"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"name": 5}',
        b'{"name": ""}',
        b'{"role": "king"}',
        b'{"scopes": ["fly"]}',
        b'{"surprise": 1}',
        b'{"expires_at": 1}',
        b'{"expires_at": 1e300}',
        b'{"name": "\\u0000"}',
        b'{"name": "a\\n"}',
        b'{"limits": {"concurrent": -1}}',
        b'{"limits": {"concurrent": 2147483648}}',
        b'{"limits": {"concurent": 1}}',
    ],
)
async def test_bad_input_is_answered_with_the_error_object(service, owner, body) -> None:
    answer = await service.call(
        "POST", KEYS, caller=owner, content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400, answer.text
    assert error(answer)["message"]
    assert error(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}])
async def test_bad_pages(service, owner, query) -> None:
    assert (await service.call("GET", KEYS, caller=owner, params=query)).status_code == 400


async def test_me(service, owner) -> None:
    me = (await service.call("GET", "/api/auth/me", caller=owner)).json()
    assert me["user"] == owner.user
    assert me["administers"] is True
    assert me["key"]["name"] == "admin"


async def test_calls_without_a_valid_context_are_refused(service) -> None:
    answer = await service.client.get(KEYS)
    assert answer.status_code == 401
    answer = await service.call("POST", "/internal/verify", issuer="stranger", json={"key": "k"})
    assert answer.status_code == 403


async def test_a_call_in_nobodys_name_has_no_keys(service) -> None:
    answer = await service.call("GET", KEYS, caller=Principal(service="gateway"))
    assert answer.status_code == 403


async def test_a_database_that_is_away_is_503_never_401(service, owner, monkeypatch) -> None:
    key = (service.parts.data / "admin.key").read_text().strip()

    def away():
        raise Unavailable("the auth database is exhausted", retry_after=1.0)

    monkeypatch.setattr(service.parts.database, "snapshot", away)
    monkeypatch.setattr(service.parts.database, "transaction", away)
    answer = await service.call("POST", "/internal/verify", json={"key": key})
    assert answer.status_code == 503
    for method, path, body in (
        ("GET", KEYS, None),
        ("POST", KEYS, {}),
        ("DELETE", f"{KEYS}/{owner.key}", None),
        ("GET", "/api/auth/me", None),
    ):
        assert (await service.call(method, path, caller=owner, json=body)).status_code == 503


async def test_verdicts_are_counted(service, owner) -> None:
    await verify(service, "nothing")
    metrics = (await service.client.get("/metrics")).text
    assert 'moonpool_auth_verdicts_total{verdict="unknown"} 1.0' in metrics
    assert 'moonpool_auth_verdicts_total{verdict="valid"} 1.0' in metrics


async def test_it_does_not_start_without_a_pepper(make_parts, run_service) -> None:
    from moonpool.core.errors import StartupError

    with pytest.raises(StartupError, match="pepper"):
        await run_service(await make_parts("auth", secrets={}))


async def test_a_request_that_arrives_again_creates_no_other_key(service, owner) -> None:
    """Its text cannot be told again; whoever asks learns which key it was, and that it can be revoked."""
    before = len((await service.call("GET", KEYS, caller=owner)).json()["data"])
    headers = {"idempotency-key": "mine"}
    first = await service.call("POST", KEYS, caller=owner, json={"name": "x"}, headers=headers)
    again = await service.call("POST", KEYS, caller=owner, json={"name": "x"}, headers=headers)
    assert (first.status_code, again.status_code, error(again)["code"]) == (201, 409, "key_created")
    assert first.json()["id"] in error(again)["message"]
    assert len((await service.call("GET", KEYS, caller=owner)).json()["data"]) == before + 1


class Billing:
    """The budgets' half of billing; `away` makes every call fail."""

    def __init__(self) -> None:
        self.away = False
        self.told: list[SetBudget] = []

    async def set_budget(self, wish: SetBudget) -> None:
        if self.away:
            raise Unavailable("billing is away")
        self.told.append(wish)


class Prices:
    """A catalogue with a model that has a price, or is free."""

    def __init__(self) -> None:
        self.price: TokenPrice | None = TokenPrice(1, 1, 1)

    async def catalogue(self, known: int | None = None) -> Catalogue:
        return Catalogue(1, (Model(id="m", targets=(), price=self.price),))


@pytest.fixture
def billing() -> Billing:
    return Billing()


@pytest.fixture
def prices() -> Prices:
    return Prices()


@pytest.fixture
async def selling(make_parts, run_service, billing, prices):
    return await run_service(await make_parts("auth", clients=Clients(budgets=billing, model=prices)))


@pytest.fixture
async def seller(selling) -> Principal:
    verdict = await verify(selling, (selling.parts.data / "admin.key").read_text().strip())
    assert verdict.principal is not None
    return verdict.principal


MONTHLY = {"amount": "5.00", "period": "month"}


async def test_a_budget_is_told_to_billing_before_anybody_has_the_key(
    selling, seller, billing, prices
) -> None:
    made = await create(selling, seller, name="app", budget=MONTHLY)
    assert made["budget"] == MONTHLY
    assert "warning" not in made
    (wish,) = billing.told
    assert (wish.key, wish.tenant, wish.user, wish.new) == (made["id"], seller.tenant, seller.user, True)
    assert wish.budget == Budget(amount=5 * 10**9, period=Period.MONTH)
    listed = (await selling.call("GET", KEYS, caller=seller)).json()["data"]
    assert {key["name"]: key["budget"] for key in listed} == {"app": MONTHLY, "admin": None}

    prices.price = None
    assert "price" in (await create(selling, seller, budget={"amount": "1"}))["warning"]


async def test_without_billing_there_is_no_key_with_a_budget(selling, seller, billing) -> None:
    billing.away = True
    answer = await selling.call("POST", KEYS, caller=seller, json={"budget": MONTHLY})
    assert (answer.status_code, error(answer)["code"]) == (503, "budget_not_set")
    active = (await selling.call("GET", KEYS, caller=seller)).json()["data"]
    assert [key["name"] for key in active] == ["admin"]
    assert (await create(selling, seller, name="without"))["budget"] is None


@pytest.mark.parametrize("amount", ["-1", "much", "0.0000000001", ""])
async def test_a_budget_is_an_amount(selling, seller, billing, amount: str) -> None:
    answer = await selling.call("POST", KEYS, caller=seller, json={"budget": {"amount": amount}})
    assert (answer.status_code, error(answer)["param"]) == (400, "budget.amount")
    assert billing.told == []


async def test_a_key_with_a_budget_cannot_get_around_it(selling, seller) -> None:
    made = await create(selling, seller, role="admin", budget=MONTHLY)
    verdict = await verify(selling, made["key"])
    assert verdict.principal is not None
    other = await selling.call("POST", KEYS, caller=verdict.principal, json={})
    assert (other.status_code, error(other)["code"]) == (403, "permission_denied")
    path = f"{KEYS}/{made['id']}/budget"
    raised = await selling.call("PUT", path, caller=verdict.principal, json={"budget": None})
    assert raised.status_code == 403


async def test_an_admin_changes_a_budget(selling, seller, billing) -> None:
    made = await create(selling, seller)
    path = f"{KEYS}/{made['id']}/budget"
    changed = await selling.call("PUT", path, caller=seller, json={"budget": MONTHLY})
    assert (changed.status_code, changed.json()["budget"]) == (200, MONTHLY)
    billing.away = True
    refused = await selling.call("PUT", path, caller=seller, json={"budget": None})
    assert (refused.status_code, error(refused)["code"]) == (503, "budget_not_set")
    billing.away = False
    gone = await selling.call("PUT", path, caller=seller, json={"budget": None})
    assert gone.json()["budget"] is None
    assert [wish.budget and wish.budget.amount for wish in billing.told] == [5 * 10**9, None]
    assert (
        await selling.call("PUT", f"{KEYS}/key_none/budget", caller=seller, json={"budget": None})
    ).status_code == 404


async def test_a_revoked_key_needs_no_budget(selling, seller, billing) -> None:
    for away in (False, True):
        made = await create(selling, seller, budget=MONTHLY)
        billing.away = away
        assert (await selling.call("DELETE", f"{KEYS}/{made['id']}", caller=seller)).status_code == 200
    assert [wish.budget is None for wish in billing.told] == [False, True, False]
