"""The signed context: nothing that the key did not sign for this audience, in this time, is believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.contracts.context import LIFETIME, SKEW, sign, verify
from moonpool.core.errors import Unauthenticated
from moonpool.core.principal import KeyLimits, Principal, Role

KEY = b"k" * 32
NOW = 1_700_000_000.0
WHO = Principal(user="user_1", tenant="org_1", key="key_1", role=Role.ADMIN, scopes=("chat",))
VALUE = sign(KEY, issuer="gateway", audience="chat", principal=WHO, now=NOW)

PRINCIPALS = st.builds(
    Principal,
    user=st.text(max_size=20),
    tenant=st.text(max_size=20),
    key=st.text(max_size=20),
    role=st.sampled_from(Role),
    scopes=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    service=st.text(max_size=8),
    limits=st.builds(KeyLimits, requests_per_minute=st.none() | st.integers(1, 10**6)),
)


@given(principal=PRINCIPALS, issuer=st.text(max_size=10))
def test_what_was_signed_is_what_is_read(principal: Principal, issuer: str) -> None:
    value = sign(KEY, issuer=issuer, audience="chat", principal=principal, now=NOW)
    context = verify(KEY, value, audience="chat", now=NOW)
    assert (context.principal, context.issuer) == (principal, issuer)


@given(place=st.integers(0, len(VALUE) - 1), bits=st.integers(1, 255))
def test_any_changed_byte_is_refused(place: int, bits: int) -> None:
    tampered = bytearray(VALUE)
    tampered[place] ^= bits
    with pytest.raises(Unauthenticated):
        verify(KEY, bytes(tampered), audience="chat", now=NOW)


@given(garbage=st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(Unauthenticated):
        verify(KEY, garbage, audience="chat", now=NOW)


@given(cut=st.integers(0, len(VALUE) - 1))
def test_a_cut_value_is_refused(cut: int) -> None:
    with pytest.raises(Unauthenticated):
        verify(KEY, VALUE[:cut], audience="chat", now=NOW)


@pytest.mark.parametrize("addition", [b"=", b".", b" ", b"\n", b".x", b"A"])
def test_what_is_added_is_refused(addition: bytes) -> None:
    """base64 decoders pass over such; the comparison is of the text."""
    for value in (VALUE + addition, addition + VALUE):
        with pytest.raises(Unauthenticated):
            verify(KEY, value, audience="chat", now=NOW)


def test_another_service_s_context_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="another service"):
        verify(KEY, VALUE, audience="billing", now=NOW)


def test_another_key_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        verify(b"j" * 32, VALUE, audience="chat", now=NOW)


@pytest.mark.parametrize(
    ("later", "accepted"),
    [(0.0, True), (-SKEW, True), (LIFETIME, True), (LIFETIME + SKEW, True), (LIFETIME + SKEW + 0.1, False)],
)
def test_lives_as_long_as_said_and_the_clocks_may_differ(later: float, accepted: bool) -> None:
    if accepted:
        verify(KEY, VALUE, audience="chat", now=NOW + later)
    else:
        with pytest.raises(Unauthenticated, match="expired"):
            verify(KEY, VALUE, audience="chat", now=NOW + later)


def test_a_signed_value_of_another_shape_is_refused() -> None:
    import base64
    import hmac

    for payload in (base64.urlsafe_b64encode(b'{"issuer":1}'), b"!!!", b"", b"\xff\xfe"):
        signature = base64.urlsafe_b64encode(hmac.digest(KEY, payload, "sha256"))
        with pytest.raises(Unauthenticated, match="malformed"):
            verify(KEY, payload + b"." + signature, audience="chat", now=NOW)
