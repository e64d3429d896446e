import pytest

from moonpool.core.principal import ANONYMOUS, RANK, Principal, Role


@pytest.mark.parametrize("role", list(Role))
def test_unscoped_keys_may_what_their_role_allows(role: Role) -> None:
    principal = Principal(user="u", role=role)
    assert principal.may("chat")
    assert principal.may("admin") == (RANK[role] >= RANK[Role.ADMIN])


@pytest.mark.parametrize("role", list(Role))
def test_scoped_keys_may_their_scopes_only(role: Role) -> None:
    principal = Principal(user="u", role=role, scopes=("inference",))
    assert principal.may("inference")
    assert not principal.may("chat")
    assert not principal.may("admin")


@pytest.mark.parametrize("role", list(Role))
def test_a_scope_gives_nobody_an_admin_s_rights(role: Role) -> None:
    """A key that was made before its owner was put back to member keeps its scopes."""
    assert Principal(user="u", role=role, scopes=("admin",)).may("admin") == (RANK[role] >= RANK[Role.ADMIN])


def test_roles_rise_in_order() -> None:
    assert sorted(Role, key=RANK.__getitem__) == list(Role)


def test_who_is_anonymous() -> None:
    assert ANONYMOUS.anonymous
    assert not Principal(user="u").anonymous
    assert not Principal(service="chat").anonymous
