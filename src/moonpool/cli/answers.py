"""What the platform's API takes and answers, as far as commands need it. Times are Unix seconds."""

import msgspec


class Limits(msgspec.Struct, kw_only=True, omit_defaults=True):
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


class NewBudget(msgspec.Struct, kw_only=True):
    """`amount` is exact, like "5.00"; `period` is day, month or total."""

    amount: str
    period: str


class ChangeBudget(msgspec.Struct, kw_only=True):
    """The body of PUT /api/auth/keys/ID/budget."""

    budget: NewBudget | None


class Budget(msgspec.Struct, kw_only=True, omit_defaults=True):
    """As auth has granted it, and what billing says about it where billing was asked."""

    amount: str
    period: str
    currency: str | None = None
    spent: str | None = None
    left: str | None = None
    renews_at: float | None = None


class KeyBudget(Budget, kw_only=True, omit_defaults=True):
    key: str


class KeyBudgets(msgspec.Struct):
    data: list[KeyBudget]
    has_more: bool


class NewKey(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of POST /api/auth/keys."""

    name: str = ""
    role: str | None = None
    scopes: list[str] | None = None
    limits: Limits | None = None
    expires_at: float | None = None
    budget: NewBudget | None = None


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
    budget: Budget | None = None
    warning: str | None = None
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
