"""auth over HTTP: thin handlers around AuthService."""

from typing import Annotated

from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler

from moonpool.asgi.app import AnyRequest
from moonpool.asgi.caller import Caller
from moonpool.asgi.once import asked
from moonpool.contracts.auth import Verdict, VerifyKey
from moonpool.contracts.config import SERVICES
from moonpool.core.errors import PermissionDenied
from moonpool.core.principal import Principal
from moonpool.services.auth.grants import Wish
from moonpool.services.auth.schema import ChangeBudget, CreateKey, KeyList, KeyView, Me, RevokedKey
from moonpool.services.auth.service import AuthService

_VERIFIERS = frozenset({"gateway", *SERVICES})
_SECRET = {"cache-control": "no-store"}
"""RFC 9111 §5.2.2.5: no cache on the way may keep an answer with a key in it."""

CallerOf = NamedDependency[Caller]
Limit = Annotated[int, QueryParameter(ge=1, le=100)]


def handlers(service: AuthService) -> list[ControllerRouterHandler]:
    @post("/api/auth/keys", summary="Create an API key")
    async def create_key(
        caller: CallerOf, request: AnyRequest, data: JSONBody[CreateKey]
    ) -> Response[KeyView]:
        wish = Wish(
            role=data.role,
            scopes=data.scopes,
            limits=data.limits,
            expires_at=data.expires_at,
            budget=None if data.budget is None else data.budget.budget(),
        )
        name = asked(caller, await request.body())
        created = await service.create(_person(caller), data.name, wish, name)
        return Response(created, status_code=201, headers=_SECRET)

    @get("/api/auth/keys", summary="List API keys")
    async def list_keys(
        caller: CallerOf,
        after: FromQuery[str | None] = None,
        limit: Limit = 20,
        include_revoked: FromQuery[bool] = False,
    ) -> KeyList:
        return await service.list(_person(caller), after=after, limit=limit, include_revoked=include_revoked)

    @delete("/api/auth/keys/{key_id:str}", status_code=200, summary="Revoke an API key")
    async def revoke_key(caller: CallerOf, key_id: FromPath[str]) -> RevokedKey:
        await service.revoke(_person(caller), key_id)
        return RevokedKey(id=key_id)

    @put("/api/auth/keys/{key_id:str}/budget", summary="Change an API key's budget")
    async def change_budget(caller: CallerOf, key_id: FromPath[str], data: JSONBody[ChangeBudget]) -> KeyView:
        budget = None if data.budget is None else data.budget.budget()
        return await service.change_budget(_person(caller), key_id, budget)

    @get("/api/auth/me", summary="Who the caller is")
    async def me(caller: CallerOf) -> Me:
        return await service.me(_person(caller))

    @post("/internal/verify", status_code=200, include_in_schema=False)
    async def verify(caller: CallerOf, data: JSONBody[VerifyKey]) -> Response[Verdict]:
        if caller.issuer not in _VERIFIERS:
            raise PermissionDenied("only the gateway and the services verify keys")
        return Response(await service.verify(data.key), headers=_SECRET)

    return [create_key, list_keys, revoke_key, change_budget, me, verify]


def _person(caller: Caller) -> Principal:
    if not caller.principal.user:
        raise PermissionDenied("only a user has keys; this call is made in nobody's name")
    return caller.principal
