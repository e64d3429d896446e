"""Money over HTTP: thin handlers around Accounts."""

from typing import Annotated

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler

from moonpool.asgi.app import AnyRequest
from moonpool.asgi.caller import Caller
from moonpool.asgi.once import asked
from moonpool.contracts.balances import Balances
from moonpool.contracts.budgets import SetBudget
from moonpool.contracts.config import SERVICES
from moonpool.core.errors import PermissionDenied
from moonpool.core.principal import RANK, Principal, Role
from moonpool.services.billing.accounts import Accounts
from moonpool.services.billing.budgets import Budgets
from moonpool.services.billing.ledger import Kind
from moonpool.services.billing.schema import (
    BalanceView,
    BudgetList,
    CreditView,
    EntryList,
    NewCredit,
    UserBalance,
)

WAIT = 1.0
"""Seconds that a question for news waits."""
_GRANTER = "auth"
_FOLLOWERS = frozenset({"gateway", *SERVICES})
CallerOf = NamedDependency[Caller]
Limit = Annotated[int, QueryParameter(ge=1, le=100)]


def budget_handlers(budgets: Budgets) -> list[ControllerRouterHandler]:
    @get("/api/billing/budgets", summary="Budgets of keys, with what is left of them")
    async def list_budgets(
        caller: CallerOf, after: FromQuery[str | None] = None, limit: Limit = 20
    ) -> BudgetList:
        return await budgets.list(_person(caller), after=after, limit=limit)

    @post("/internal/budgets", status_code=200, include_in_schema=False)
    async def set_budget(caller: CallerOf, data: JSONBody[SetBudget]) -> None:
        if caller.issuer != _GRANTER or not caller.principal.service:
            raise PermissionDenied("only the auth service grants budgets")
        await budgets.set(data)

    return [list_budgets, set_budget]


def money_handlers(accounts: Accounts) -> list[ControllerRouterHandler]:
    @get("/user/balance", summary="The balance, as DeepSeek has it")
    async def user_balance(caller: CallerOf) -> UserBalance:
        return await accounts.user_balance(_person(caller))

    @get("/api/billing/balance", summary="The organisation's balance")
    async def balance(caller: CallerOf, organisation: FromQuery[str | None] = None) -> BalanceView:
        person = _person(caller)
        tenant = organisation or person.tenant
        if tenant != person.tenant:
            _admin(caller)
        return await accounts.balance(person, tenant)

    @post("/api/billing/credits", summary="Credit an organisation")
    async def add_credit(
        caller: CallerOf, request: AnyRequest, data: JSONBody[NewCredit]
    ) -> Response[CreditView]:
        made = await accounts.add(_admin(caller), data, asked(caller, await request.body()))
        return Response(made, status_code=200 if made.repeated else 201)

    @get("/api/billing/entries", summary="The ledger's entries, newest first")
    async def entries(
        caller: CallerOf,
        organisation: FromQuery[str | None] = None,
        kind: FromQuery[Kind | None] = None,
        after: FromQuery[str | None] = None,
        limit: Limit = 20,
    ) -> EntryList:
        admin = _admin(caller)
        return await accounts.journal(admin, organisation or admin.tenant, kind, after, limit)

    @get("/internal/balances", include_in_schema=False)
    async def balances(caller: CallerOf, source: FromQuery[str], mark: FromQuery[str] = "") -> Balances:
        if caller.issuer not in _FOLLOWERS or not caller.principal.service:
            raise PermissionDenied("only the gateway and the services follow balances")
        return await accounts.balances(source, mark, WAIT)

    return [user_balance, balance, add_credit, entries, balances]


def _person(caller: Caller) -> Principal:
    if not caller.principal.user:
        raise PermissionDenied("only a user has a balance; this call is made in nobody's name")
    return caller.principal


def _admin(caller: Caller) -> Principal:
    person = _person(caller)
    if RANK[person.role] < RANK[Role.ADMIN] or not person.may("admin"):
        raise PermissionDenied("only admins see and change the books of organisations")
    return person
