"""Who asks."""

from enum import StrEnum

import msgspec


class Role(StrEnum):
    """In rising order of rights."""

    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"
    OWNER = "owner"


RANK = {Role.VIEWER: 0, Role.MEMBER: 1, Role.ADMIN: 2, Role.OWNER: 3}


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """A key's own bounds; None: the platform's default."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The authenticated caller, as the auth service vouches for it.

    `tenant` (the organisation) is what data, caches and bills are separated by. Scopes are words like
    "inference" or "admin"; an empty tuple means all that the role allows.
    """

    user: str = ""
    tenant: str = ""
    key: str = ""
    """The API key's public id, never the key."""
    role: Role = Role.VIEWER
    scopes: tuple[str, ...] = ()
    service: str = ""
    """Set when a service asks on its own behalf."""
    limits: KeyLimits = KeyLimits()

    @property
    def anonymous(self) -> bool:
        return not self.user and not self.service

    def may(self, scope: str) -> bool:
        """Whether the scopes allow `scope`, where no scopes allow everything; "admin" takes the role too."""
        if scope == "admin" and RANK[self.role] < RANK[Role.ADMIN]:
            return False
        return not self.scopes or scope in self.scopes


ANONYMOUS = Principal()
