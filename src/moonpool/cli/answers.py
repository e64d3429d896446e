"""What the platform's API takes and answers, as far as commands need it. Times are Unix seconds."""

import msgspec


class Limits(msgspec.Struct, kw_only=True, omit_defaults=True):
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


class NewKey(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of POST /api/auth/keys."""

    name: str = ""
    role: str | None = None
    scopes: list[str] | None = None
    limits: Limits | None = None
    expires_at: float | None = None


class Key(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str
    name: str
    role: str
    scopes: list[str]
    status: str
    created_at: float
    user: str
    limits: Limits
    expires_at: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None
    key: str | None = None


class KeyPage(msgspec.Struct):
    data: list[Key]
    has_more: bool


class RevokedKey(msgspec.Struct):
    id: str
    deleted: bool


class Target(msgspec.Struct, kw_only=True):
    id: str
    url: str = ""
    model: str = ""
    api_key_env: str = ""
    priority: int = 0
    weight: int = 1


class Model(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`targets` and `source` are known to admins only."""

    id: str
    created: int
    owned_by: str
    context: int | None = None
    capabilities: list[str] = []
    targets: list[Target] | None = None
    fallbacks: list[str] = []
    source: str | None = None


class Models(msgspec.Struct):
    data: list[Model]
