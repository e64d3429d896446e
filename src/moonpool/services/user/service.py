"""The domain of user. A profile comes into being when its user is first seen here."""

from sqlalchemy.exc import IntegrityError

from moonpool.core.clock import Clock
from moonpool.core.errors import InternalError
from moonpool.core.principal import Principal
from moonpool.ports.database import Database
from moonpool.services.user import store
from moonpool.services.user.schema import Profile, ProfileChange, ProfileList


class UserService:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def profile(self, caller: Principal) -> Profile:
        found = await self._find(caller)
        return found if found is not None else await self._create(caller)

    async def change(self, caller: Principal, wanted: ProfileChange) -> Profile:
        profile = await self.profile(caller)
        values = wanted.values()
        if not values:
            return profile
        async with self._database.transaction() as connection:
            await store.change(connection, caller.tenant, caller.user, values, self._clock.time())
            changed = await store.find(connection, caller.tenant, caller.user)
        assert changed is not None
        return changed

    async def list(self, caller: Principal, *, after: str | None, limit: int) -> ProfileList:
        """Of the caller's organisation."""
        async with self._database.snapshot() as connection:
            found = await store.list_profiles(connection, caller.tenant, after=after, limit=limit + 1)
        return ProfileList(data=found[:limit], has_more=len(found) > limit)

    async def _find(self, caller: Principal) -> Profile | None:
        async with self._database.snapshot() as connection:
            return await store.find(connection, caller.tenant, caller.user)

    async def _create(self, caller: Principal) -> Profile:
        now = self._clock.time()
        profile = Profile(id=caller.user, organisation=caller.tenant, created_at=now, updated_at=now)
        try:
            async with self._database.transaction() as connection:
                await store.add(connection, profile)
        except IntegrityError:  # another request of the same user was faster
            found = await self._find(caller)
            if found is None:
                raise InternalError("the user belongs to another organisation") from None
            return found
        return profile
