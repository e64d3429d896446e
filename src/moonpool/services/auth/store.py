"""auth's queries. Every function works in the transaction (or snapshot) of the connection it is given."""

from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import Select, and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.contracts.budgets import Budget, Period
from moonpool.core.principal import RANK, KeyLimits, Principal, Role
from moonpool.services.auth.grants import Grant
from moonpool.services.auth.tables import api_keys, installation, organisations, users


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `api_keys` with what counts of its user. Times are Unix seconds."""

    id: str
    digest: str
    organisation: str
    user: str
    name: str
    role: Role
    """The lower of the key's and its user's: who is demoted is so with all keys."""
    scopes: tuple[str, ...]
    limits: KeyLimits
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    revoked_at: float | None
    user_disabled: bool
    budget: Budget | None

    def status(self, now: float) -> str:
        """active, revoked, disabled or expired."""
        if self.revoked_at is not None:
            return "revoked"
        if self.user_disabled:
            return "disabled"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "active"

    def principal(self) -> Principal:
        return Principal(
            user=self.user,
            tenant=self.organisation,
            key=self.id,
            role=self.role,
            scopes=self.scopes,
            limits=self.limits,
        )


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    organisation: str
    admin_user: str
    admin_key: str


_KEYS = select(api_keys, users.c.role.label("user_role"), users.c.disabled_at).join(users)


async def find_key(connection: AsyncConnection, key_id: str) -> StoredKey | None:
    found = await _keys(connection, _KEYS.where(api_keys.c.id == key_id))
    return found[0] if found else None


async def list_keys(
    connection: AsyncConnection,
    organisation: str,
    *,
    user: str | None,
    roles: Sequence[Role],
    include_revoked: bool,
    after: str | None,
    limit: int,
) -> list[StoredKey]:
    """Newest first; `user` None: of all users; `after` is the last id of the page before."""
    query = _KEYS.where(api_keys.c.organisation_id == organisation, api_keys.c.role.in_(roles))
    if user is not None:
        query = query.where(api_keys.c.user_id == user)
    if not include_revoked:
        query = query.where(api_keys.c.revoked_at.is_(None))
    if after is not None:
        query = query.where(api_keys.c.id < after)
    return await _keys(connection, query.order_by(api_keys.c.id.desc()).limit(limit))


async def has_other_owner_key(connection: AsyncConnection, key: StoredKey, now: float) -> bool:
    """Whether somebody could still do everything if `key` were gone."""
    query = _KEYS.where(
        api_keys.c.organisation_id == key.organisation,
        api_keys.c.id != key.id,
        api_keys.c.role == Role.OWNER,
        api_keys.c.revoked_at.is_(None),
        or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > now),
    )
    others = await _keys(connection, query)
    return any(not other.scopes and other.status(now) == "active" for other in others)


async def insert_key(
    connection: AsyncConnection,
    *,
    key_id: str,
    digest: str,
    organisation: str,
    user: str,
    name: str,
    grant: Grant,
    created_by: str,
    now: float,
) -> None:
    row = {
        "id": key_id,
        "digest": digest,
        "organisation_id": organisation,
        "user_id": user,
        "name": name,
        "role": grant.role,
        "scopes": list(grant.scopes),
        "requests_per_minute": grant.limits.requests_per_minute,
        "tokens_per_minute": grant.limits.tokens_per_minute,
        "concurrent": grant.limits.concurrent,
        "created_at": now,
        "created_by": created_by,
        "expires_at": grant.expires_at,
        **_budget(grant.budget),
    }
    await connection.execute(insert(api_keys).values(row))


async def set_budget(connection: AsyncConnection, key_id: str, budget: Budget | None) -> None:
    statement = update(api_keys).where(api_keys.c.id == key_id)
    await connection.execute(statement.values(_budget(budget)))


def _budget(budget: Budget | None) -> dict[str, object]:
    if budget is None:
        return {"budget": None, "budget_period": None}
    return {"budget": budget.amount, "budget_period": budget.period.value}


async def revoke_key(connection: AsyncConnection, key_id: str, now: float) -> bool:
    """Whether the key was not revoked before."""
    statement = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    return (await connection.execute(statement.values(revoked_at=now))).rowcount == 1


async def touch_keys(connection: AsyncConnection, used: Mapping[str, float]) -> None:
    """Note when keys were last used; never moves a time backwards."""
    for key_id, at in used.items():
        earlier = or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < at)
        statement = update(api_keys).where(and_(api_keys.c.id == key_id, earlier))
        await connection.execute(statement.values(last_used_at=at))


async def find_installation(connection: AsyncConnection) -> Installation | None:
    row = (await connection.execute(select(installation))).one_or_none()
    if row is None:
        return None
    return Installation(
        organisation=row.organisation_id, admin_user=row.admin_user_id, admin_key=row.admin_key_id
    )


async def insert_organisation(connection: AsyncConnection, organisation: str, name: str, now: float) -> None:
    values = {"id": organisation, "name": name, "created_at": now}
    await connection.execute(insert(organisations).values(values))


async def insert_user(
    connection: AsyncConnection, user: str, organisation: str, role: Role, now: float
) -> None:
    values = {"id": user, "organisation_id": organisation, "role": role, "created_at": now}
    await connection.execute(insert(users).values(values))


async def insert_installation(connection: AsyncConnection, made: Installation, now: float) -> None:
    """Raises IntegrityError when there is one already."""
    values = {
        "id": 1,
        "organisation_id": made.organisation,
        "admin_user_id": made.admin_user,
        "admin_key_id": made.admin_key,
        "created_at": now,
    }
    await connection.execute(insert(installation).values(values))


async def replace_admin_key(connection: AsyncConnection, key_id: str) -> None:
    await connection.execute(update(installation).values(admin_key_id=key_id))


async def _keys(connection: AsyncConnection, query: Select[*tuple[object, ...]]) -> list[StoredKey]:
    return [
        StoredKey(
            id=row.id,
            digest=row.digest,
            organisation=row.organisation_id,
            user=row.user_id,
            name=row.name,
            role=min(Role(row.role), Role(row.user_role), key=RANK.__getitem__),
            scopes=tuple(row.scopes),
            limits=KeyLimits(
                requests_per_minute=row.requests_per_minute,
                tokens_per_minute=row.tokens_per_minute,
                concurrent=row.concurrent,
            ),
            created_at=row.created_at,
            expires_at=row.expires_at,
            last_used_at=row.last_used_at,
            revoked_at=row.revoked_at,
            user_disabled=row.disabled_at is not None,
            budget=None
            if row.budget is None
            else Budget(amount=row.budget, period=Period(row.budget_period)),
        )
        for row in await connection.execute(query)
    ]
