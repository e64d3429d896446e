"""Decisions as a header: right, bounded, and only for administrators."""

import re

import pytest

from moonpool.core.context import Attempt
from moonpool.core.message import Request
from moonpool.core.principal import Principal, Role
from moonpool.middleware.server_timing import BYTES, ENTRIES, render, server_timing

ADMIN = Principal(user="u", tenant="t", role=Role.ADMIN)
TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
ENTRY = rf'{TOKEN};dur=\d+\.\d\d(;desc="([\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*")?'
FIELD = re.compile(rf"{ENTRY}(, {ENTRY})*")


def ask(value: bytes = b"1") -> Request:
    return Request("POST", "/", "", {b"x-moonpool-explain": value})


def test_in_the_order_of_time(make_ctx, clock) -> None:
    ctx = make_ctx(principal=ADMIN)
    clock.advance(0.00004)
    ctx.decide("authentication", "allow", "cached")
    attempt = Attempt("inference-0", "v1", clock.monotonic())
    ctx.attempts.append(attempt)
    clock.advance(0.25)
    attempt.ended, attempt.status = clock.monotonic(), 503
    ctx.decide("retry", "again")
    assert server_timing(ctx, ask()) == (
        b'authentication;dur=0.04;desc="allow: cached", attempt-1;dur=250.00;desc="inference-0 503", '
        b'retry;dur=250.04;desc="again", total;dur=250.04'
    )


@pytest.mark.parametrize(
    ("principal", "value"),
    [
        (Principal(user="u", role=Role.MEMBER), b"1"),
        (Principal(user="u", role=Role.ADMIN, scopes=("inference",)), b"1"),
        (Principal(), b"1"),
        (ADMIN, b"0"),
        (ADMIN, b""),
    ],
)
def test_only_for_administrators_who_ask(make_ctx, principal, value) -> None:
    assert server_timing(make_ctx(principal=principal), ask(value)) is None
    assert server_timing(make_ctx(principal=ADMIN), Request("GET", "/")) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dead letter", 'say "no", \\ or\r\nx-evil: 1'),
        ("über", "grün ☃ \x00\x7f"),
        ("", "x" * 10_000),
        ("a,b;c", ";,="),
    ],
)
def test_hostile_words_stay_inside(make_ctx, name, reason) -> None:
    ctx = make_ctx()
    ctx.decide(name, "allow", reason)
    value = render(ctx).decode("ascii")
    assert FIELD.fullmatch(value)
    assert len(value) < 400


def test_bounded_with_beginning_and_end(make_ctx, clock) -> None:
    ctx = make_ctx()
    for number in range(500):
        clock.advance(0.001)
        ctx.decide(f"f{number}", "allow", '"' * 90)
    value = render(ctx).decode()
    assert FIELD.fullmatch(value)
    assert len(value) <= BYTES
    assert value.count("dur=") <= ENTRIES + 1
    assert value.startswith("f0;")
    assert "f499;" in value
    assert value.endswith("total;dur=500.00")
