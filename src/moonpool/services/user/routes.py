"""user over HTTP: thin handlers around UserService."""

from typing import Annotated

from litestar import get, patch
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler

from moonpool.asgi.caller import Caller
from moonpool.core.errors import PermissionDenied
from moonpool.core.principal import RANK, Principal, Role
from moonpool.services.user.schema import Profile, ProfileChange, ProfileList
from moonpool.services.user.service import UserService

CallerOf = NamedDependency[Caller]
Limit = Annotated[int, QueryParameter(ge=1, le=100)]


def handlers(service: UserService) -> list[ControllerRouterHandler]:
    @get("/api/users/me", summary="The caller's profile")
    async def me(caller: CallerOf) -> Profile:
        return await service.profile(_person(caller))

    @patch("/api/users/me", summary="Change the caller's profile")
    async def change_me(caller: CallerOf, data: JSONBody[ProfileChange]) -> Profile:
        return await service.change(_person(caller), data)

    @get("/api/users", summary="The organisation's profiles")
    async def list_users(
        caller: CallerOf, after: FromQuery[str | None] = None, limit: Limit = 20
    ) -> ProfileList:
        person = _person(caller)
        if RANK[person.role] < RANK[Role.ADMIN] or not person.may("admin"):
            raise PermissionDenied("only admins see the profiles of others")
        return await service.list(person, after=after, limit=limit)

    return [me, change_me, list_users]


def _person(caller: Caller) -> Principal:
    if not caller.principal.user:
        raise PermissionDenied("only a user has a profile; this call is made in nobody's name")
    return caller.principal
