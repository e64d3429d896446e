"""user's queries, in the transaction or snapshot of the connection they are given."""

from collections.abc import Mapping

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.services.user.schema import Profile, Theme
from moonpool.services.user.tables import profiles


async def find(connection: AsyncConnection, organisation: str, user: str) -> Profile | None:
    query = select(profiles).where(profiles.c.user_id == user, profiles.c.organisation_id == organisation)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _profile(row)


async def add(connection: AsyncConnection, profile: Profile) -> None:
    """Raises IntegrityError when the user has a profile."""
    await connection.execute(
        insert(profiles).values(
            user_id=profile.id,
            organisation_id=profile.organisation,
            display_name=profile.display_name,
            locale=profile.locale,
            theme=profile.theme,
            created_at=profile.created_at,
            updated_at=profile.updated_at,
        )
    )


async def change(
    connection: AsyncConnection, organisation: str, user: str, values: Mapping[str, str], now: float
) -> None:
    mine = (profiles.c.user_id == user) & (profiles.c.organisation_id == organisation)
    await connection.execute(update(profiles).where(mine).values(**values, updated_at=now))


async def list_profiles(
    connection: AsyncConnection, organisation: str, *, after: str | None, limit: int
) -> list[Profile]:
    """By id; `after` is the last id of the page before."""
    query = select(profiles).where(profiles.c.organisation_id == organisation)
    if after is not None:
        query = query.where(profiles.c.user_id > after)
    rows = await connection.execute(query.order_by(profiles.c.user_id).limit(limit))
    return [_profile(row) for row in rows]


def _profile(row: Row[*tuple[object, ...]]) -> Profile:
    return Profile(
        id=row.user_id,
        organisation=row.organisation_id,
        display_name=row.display_name,
        locale=row.locale,
        theme=Theme(row.theme),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
