"""Nobody grants more than he has."""

import pytest

from moonpool.core.errors import BadRequest, PermissionDenied
from moonpool.core.principal import KeyLimits, Principal, Role
from moonpool.services.auth.grants import Wish, administers, grant, may_revoke, roles_within

NOW = 1000.0


def caller(role: Role = Role.MEMBER, *scopes: str, **limits: int) -> Principal:
    return Principal(
        user="u", tenant="t", key="key_own", role=role, scopes=scopes, limits=KeyLimits(**limits)
    )


def give(granter: Principal, *, until: float | None = None, **wish: object):
    return grant(granter, Wish(**wish), now=NOW, granter_expires=until)  # type: ignore[arg-type]


def test_without_wishes_the_key_is_as_its_maker_but_at_most_member() -> None:
    made = give(caller(Role.OWNER, requests_per_minute=7), until=2000.0)
    assert made.role is Role.MEMBER
    assert made.scopes == ()
    assert made.limits.requests_per_minute == 7
    assert made.expires_at == 2000.0
    assert give(caller(Role.VIEWER)).role is Role.VIEWER
    assert give(caller(Role.MEMBER, "chat", "keys")).scopes == ("chat", "keys")


@pytest.mark.parametrize(
    ("own", "wished", "allowed"),
    [
        (Role.OWNER, Role.OWNER, True),
        (Role.ADMIN, Role.ADMIN, True),
        (Role.ADMIN, Role.OWNER, False),
        (Role.MEMBER, Role.ADMIN, False),
        (Role.VIEWER, Role.MEMBER, False),
    ],
)
def test_roles(own: Role, wished: Role, allowed: bool) -> None:
    if allowed:
        assert give(caller(own), role=wished).role is wished
    else:
        with pytest.raises(PermissionDenied, match="role"):
            give(caller(own), role=wished)


@pytest.mark.parametrize(
    ("granter", "wished", "allowed"),
    [
        (caller(Role.ADMIN), ("admin", "chat"), True),
        (caller(Role.MEMBER), ("chat", "inference"), True),
        (caller(Role.MEMBER), ("admin",), False),
        (caller(Role.MEMBER, "keys", "chat"), ("chat",), True),
        (caller(Role.MEMBER, "keys", "chat"), ("chat", "inference"), False),
        (caller(Role.OWNER, "keys"), (), False),
        (caller(Role.OWNER, "keys"), ("admin",), False),
    ],
)
def test_scopes(granter: Principal, wished: tuple[str, ...], allowed: bool) -> None:
    if allowed:
        assert give(granter, scopes=wished).scopes == wished
    else:
        with pytest.raises(PermissionDenied):
            give(granter, scopes=wished)


def test_an_unknown_scope_is_the_clients_mistake() -> None:
    with pytest.raises(BadRequest) as refused:
        give(caller(Role.OWNER), scopes=("everything",))
    assert refused.value.code == "unknown_scope"
    assert "inference" in str(refused.value.hint)


def test_limits_can_only_fall() -> None:
    assert give(caller(concurrent=4), limits=KeyLimits(concurrent=2)).limits.concurrent == 2
    assert give(caller(), limits=KeyLimits(tokens_per_minute=9)).limits.tokens_per_minute == 9
    with pytest.raises(PermissionDenied):
        give(caller(concurrent=4), limits=KeyLimits(concurrent=5))
    with pytest.raises(BadRequest):
        give(caller(), limits=KeyLimits(concurrent=0))


def test_a_key_does_not_outlive_its_maker() -> None:
    assert give(caller(), until=3000.0, expires_at=2000.0).expires_at == 2000.0
    with pytest.raises(PermissionDenied):
        give(caller(), until=3000.0, expires_at=3001.0)
    with pytest.raises(BadRequest):
        give(caller(), expires_at=NOW)


@pytest.mark.parametrize("moment", [1e300, 253_402_300_800.0, 1_767_225_600_000.0])
def test_a_key_ends_in_a_year_of_four_digits_if_at_all(moment: float) -> None:
    with pytest.raises(BadRequest) as refused:
        give(caller(), expires_at=moment)
    assert refused.value.param == "expires_at"
    assert give(caller(), expires_at=253_402_214_400.0).expires_at == 253_402_214_400.0


def test_who_administers() -> None:
    assert administers(caller(Role.ADMIN))
    assert administers(caller(Role.OWNER, "admin"))
    assert not administers(caller(Role.OWNER, "chat"))
    assert not administers(caller(Role.MEMBER, "admin"))


def test_roles_within() -> None:
    assert roles_within(Role.MEMBER) == [Role.VIEWER, Role.MEMBER]
    assert roles_within(Role.OWNER) == list(Role)


@pytest.mark.parametrize(
    ("granter", "key", "allowed"),
    [
        (caller(Role.VIEWER, "chat"), ("key_own", "u", Role.VIEWER, ("chat",)), True),
        (caller(), ("key_b", "u", Role.MEMBER, ()), True),
        (caller(), ("key_b", "u", Role.OWNER, ()), False),
        (caller(), ("key_b", "other", Role.MEMBER, ()), False),
        (caller(Role.ADMIN), ("key_b", "other", Role.MEMBER, ()), True),
        (caller(Role.ADMIN), ("key_b", "other", Role.OWNER, ()), False),
        (caller(Role.MEMBER, "keys"), ("key_b", "u", Role.MEMBER, ()), False),
        (caller(Role.MEMBER, "keys"), ("key_b", "u", Role.MEMBER, ("keys",)), True),
        (caller(Role.MEMBER, "keys"), ("key_b", "u", Role.MEMBER, ("chat",)), False),
    ],
)
def test_may_revoke(granter: Principal, key: tuple[str, str, Role, tuple[str, ...]], allowed: bool) -> None:
    key_id, user, role, scopes = key
    assert may_revoke(granter, key=key_id, user=user, role=role, scopes=scopes) is allowed
