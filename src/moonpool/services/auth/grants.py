"""Who may give which rights away, and manage which keys. Pure.

One rule: nobody grants, or takes from others, more than he has himself: not by role, scope, limit or
time of expiry.
"""

import msgspec

from moonpool.contracts.auth import SCOPES
from moonpool.contracts.budgets import Budget
from moonpool.core.errors import BadRequest, PermissionDenied
from moonpool.core.principal import RANK, KeyLimits, Principal, Role

LAST_EXPIRY = 253_402_214_400.0
"""9999-12-31: later moments have no date in Python and SQL, and are milliseconds mostly."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a key allows. `expires_at` is Unix seconds, None: never."""

    role: Role
    scopes: tuple[str, ...]
    limits: KeyLimits
    expires_at: float | None
    budget: Budget | None = None


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for a new key; None: as much as the granter has (role: at most member)."""

    role: Role | None = None
    scopes: tuple[str, ...] | None = None
    limits: KeyLimits = KeyLimits()
    expires_at: float | None = None
    budget: Budget | None = None


def grant(
    granter: Principal,
    wish: Wish,
    *,
    now: float,
    granter_expires: float | None,
    granter_budget: Budget | None = None,
) -> Grant:
    """The rights of the new key.

    Raises BadRequest for what no key can have, PermissionDenied for what the granter has not.
    """
    if granter_budget is not None:  # each key more would be its budget once more
        raise PermissionDenied(
            "a key with a budget of its own creates no other keys", hint="Use a key without a budget."
        )
    return Grant(
        budget=wish.budget,
        role=_role(granter, wish.role),
        scopes=_scopes(granter, wish),
        limits=_limits(granter.limits, wish.limits),
        expires_at=_expiry(wish.expires_at, now, granter_expires),
    )


def administers(caller: Principal) -> bool:
    """Whether the caller acts for the whole organisation."""
    return RANK[caller.role] >= RANK[Role.ADMIN] and caller.may("admin")


def roles_within(role: Role) -> list[Role]:
    """The roles that are not above `role`."""
    return [other for other in Role if RANK[other] <= RANK[role]]


def may_revoke(caller: Principal, *, key: str, user: str, role: Role, scopes: tuple[str, ...]) -> bool:
    """Whether the caller may revoke `key` of `user`: any key may give itself up."""
    if caller.key == key:
        return True
    if user != caller.user and not administers(caller):
        return False
    if RANK[role] > RANK[caller.role]:
        return False
    return administers(caller) or not caller.scopes or (bool(scopes) and set(scopes) <= set(caller.scopes))


def _role(granter: Principal, wished: Role | None) -> Role:
    if wished is None:
        return min(granter.role, Role.MEMBER, key=RANK.__getitem__)
    if RANK[wished] > RANK[granter.role]:
        raise PermissionDenied(
            f"a key with the role '{granter.role}' cannot create one with the role '{wished}'",
            param="role",
            hint=f"Ask for '{granter.role}' or less, or use a key with more rights.",
        )
    return wished


def _scopes(granter: Principal, wish: Wish) -> tuple[str, ...]:
    wished = granter.scopes if wish.scopes is None else tuple(dict.fromkeys(wish.scopes))
    for scope in wished:
        if scope not in SCOPES:
            raise BadRequest(
                f"there is no scope '{scope}'",
                code="unknown_scope",
                param="scopes",
                hint=f"The scopes are {', '.join(SCOPES)}.",
            )
    if not granter.scopes:
        refused = [scope for scope in wished if not granter.may(scope)]
    elif wished:
        refused = [scope for scope in wished if scope not in granter.scopes]
    else:
        refused = ["all"]  # no scopes means every scope: more than a scoped key has
    if refused:
        raise PermissionDenied(
            f"this key does not have what it would grant: {', '.join(refused)}",
            param="scopes",
            hint=f"It may grant {', '.join(granter.scopes) or 'all but admin'}.",
        )
    return wished


def _limits(own: KeyLimits, new: KeyLimits) -> KeyLimits:
    return KeyLimits(
        requests_per_minute=_limit("requests_per_minute", own.requests_per_minute, new.requests_per_minute),
        tokens_per_minute=_limit("tokens_per_minute", own.tokens_per_minute, new.tokens_per_minute),
        concurrent=_limit("concurrent", own.concurrent, new.concurrent),
    )


def _limit(name: str, own: int | None, wished: int | None) -> int | None:
    if wished is None:
        return own
    if wished < 1:
        raise BadRequest(f"limits.{name} must be at least 1", code="invalid_value", param=f"limits.{name}")
    if own is not None and wished > own:
        raise PermissionDenied(f"this key's own limit is {own}", param=f"limits.{name}")
    return wished


def _expiry(wished: float | None, now: float, own: float | None) -> float | None:
    if wished is None:
        return own
    if wished <= now:
        raise BadRequest("expires_at is in the past", code="invalid_value", param="expires_at")
    if wished > LAST_EXPIRY:
        raise BadRequest(
            "expires_at is after the year 9999",
            code="invalid_value",
            param="expires_at",
            hint="It is in seconds since 1970, not milliseconds. A key without it does not expire.",
        )
    if own is not None and wished > own:
        raise PermissionDenied("the new key cannot outlive the key that creates it", param="expires_at")
    return wished
