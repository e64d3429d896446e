"""What auth's routes take and give. Times are Unix seconds; a key's `object` is "api_key"."""

from typing import Annotated

import msgspec

from moonpool.contracts.budgets import Budget, Period
from moonpool.contracts.money import amount_of, spell
from moonpool.contracts.names import ONE_LINE
from moonpool.core.errors import BadRequest
from moonpool.core.principal import KeyLimits, Role
from moonpool.services.auth.store import StoredKey

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=ONE_LINE)]
Bound = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
"""As wide as the columns."""


class BudgetWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`amount` is a string with at most nine decimals, in the platform's currency."""

    amount: str
    period: Period = Period.TOTAL

    def budget(self) -> Budget:
        """Raises BadRequest."""
        try:
            amount = amount_of(self.amount)
            if amount < 0:
                raise ValueError("a budget is not below zero")
        except ValueError as error:
            raise BadRequest(
                str(error), code="invalid_value", param="budget.amount", hint='Write it like "10.00".'
            ) from None
        return Budget(amount=amount, period=self.period)


class ChangeBudget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`budget` null takes it away."""

    budget: BudgetWish | None


class LimitsWish(KeyLimits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A misspelled limit would be none."""

    requests_per_minute: Bound | None = None
    tokens_per_minute: Bound | None = None
    concurrent: Bound | None = None


class CreateKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything left out is as the creating key has it; `role` is then at most member."""

    name: Name = "key"
    role: Role | None = None
    scopes: tuple[str, ...] | None = None
    limits: LimitsWish = LimitsWish()
    expires_at: float | None = None
    budget: BudgetWish | None = None


class BudgetView(msgspec.Struct, frozen=True, kw_only=True):
    amount: str
    period: Period


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """`hint` is the beginning of the key's text, by which its owner can tell it. `key` is the text
    itself: in the answer that creates the key and in no other. `warning` says what of it has no effect.
    GET /api/billing/budgets tells what is left of `budget`."""

    id: str
    object: str = "api_key"
    name: str
    hint: str
    user: str
    role: Role
    scopes: tuple[str, ...]
    limits: KeyLimits
    status: str
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    revoked_at: float | None
    budget: BudgetView | None
    warning: str | msgspec.UnsetType = msgspec.UNSET
    key: str | msgspec.UnsetType = msgspec.UNSET


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[KeyView]
    has_more: bool


class RevokedKey(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "api_key"
    deleted: bool = True


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Whom the platform takes the caller for; `administers`: acts for the whole organisation."""

    object: str = "principal"
    user: str
    organisation: str
    role: Role
    scopes: tuple[str, ...]
    limits: KeyLimits
    administers: bool
    key: KeyView | None


def view(
    key: StoredKey,
    now: float,
    text: str | msgspec.UnsetType = msgspec.UNSET,
    *,
    warning: str | msgspec.UnsetType = msgspec.UNSET,
) -> KeyView:
    return KeyView(
        id=key.id,
        name=key.name,
        hint=f"sk-mp-{key.id.removeprefix('key_')[:8]}…",
        user=key.user,
        role=key.role,
        scopes=key.scopes,
        limits=key.limits,
        status=key.status(now),
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
        budget=None
        if key.budget is None
        else BudgetView(amount=spell(key.budget.amount), period=key.budget.period),
        warning=warning,
        key=text,
    )
