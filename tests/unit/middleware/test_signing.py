import pytest

from moonpool.contracts.context import LIFETIME, verify
from moonpool.core.principal import Principal
from moonpool.middleware import signing
from moonpool.middleware.signing import ContextSigner

KEYS = {"chat": b"c" * 32, "billing": b"b" * 32}
ONE, OTHER = Principal(user="u1"), Principal(user="u2")


def test_signs_for_the_audience_with_its_key(clock) -> None:
    signer = ContextSigner("gateway", KEYS, clock)
    for audience, key in KEYS.items():
        context = verify(key, signer.sign(ONE, audience), audience=audience, now=clock.time())
        assert (context.issuer, context.principal) == ("gateway", ONE)


def test_one_value_serves_for_half_its_life(clock) -> None:
    signer = ContextSigner("gateway", KEYS, clock)
    first = signer.sign(ONE, "chat")
    clock.advance(LIFETIME / 2 - 1)
    assert signer.sign(ONE, "chat") is first
    clock.advance(1)
    second = signer.sign(ONE, "chat")
    assert second != first
    assert verify(KEYS["chat"], second, audience="chat", now=clock.time())


def test_nobody_gets_another_s_value(clock) -> None:
    signer = ContextSigner("gateway", KEYS, clock)
    values = {signer.sign(who, audience) for who in (ONE, OTHER) for audience in KEYS}
    assert len(values) == 4


def test_a_clock_that_was_set_back_makes_new_ones(clock) -> None:
    signer = ContextSigner("gateway", KEYS, clock)
    clock.advance(1000)
    first = signer.sign(ONE, "chat")
    clock.advance(-1000)
    assert signer.sign(ONE, "chat") != first


def test_services_that_may_not_be_called(clock) -> None:
    with pytest.raises(KeyError):
        ContextSigner("gateway", KEYS, clock).sign(ONE, "auth")


def test_memory_is_bounded(clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "CAPACITY", 10)
    signer = ContextSigner("gateway", KEYS, clock)
    for n in range(50):
        signer.sign(Principal(user=str(n)), "chat")
        assert len(signer._made) <= 10
