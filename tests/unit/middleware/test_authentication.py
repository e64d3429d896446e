"""Who asks: from memory while fresh, from memory while auth is away, and never in without being known."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from moonpool.contracts.auth import Verdict
from moonpool.contracts.manifest import Access, Route
from moonpool.core.errors import (
    MoonpoolError,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from moonpool.core.message import Request, Response
from moonpool.core.principal import Principal, Role
from moonpool.middleware import authentication
from moonpool.middleware.attempts import FailedAttempts
from moonpool.middleware.authentication import (
    FRESH,
    LANES,
    MAX_STALE,
    UNKNOWN_FRESH,
    Authentication,
    KeyCache,
)

KEY = "sk-moonpool-0123456789abcdefghijklmnopqrstuvwxyz"
OTHER = "sk-moonpool-zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"
MEMBER = Principal(user="u", tenant="t", key="key_1", role=Role.MEMBER)
ADMIN = Principal(user="a", tenant="t", key="key_2", role=Role.ADMIN)
UNKNOWN = Verdict(principal=None, reason="revoked")


class Auth:
    """An auth service that can be away, or slow until told."""

    def __init__(self) -> None:
        self.verdicts: dict[str, Verdict] = {KEY: Verdict(principal=MEMBER)}
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def verify(self, key: str) -> Verdict:
        self.asked.append(key)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.verdicts.get(key, UNKNOWN)


@pytest.fixture
def house(clock, log, make_ctx):
    auth = Auth()
    cache = KeyCache(clock)
    cache._secret = bytes(32)  # the same lanes in every run
    attempts = FailedAttempts(clock, per_minute=60, burst=3)
    layer = Authentication(cache, auth, attempts, clock, log)

    async def ask(
        key: str | bytes | None = KEY, *, peer: str = "10.0.0.1", headers=None, last=None, **route
    ) -> Principal:
        ctx = make_ctx(route=Route(method="GET", path="/", **route))
        ctx.principal = Principal()
        value = key.encode() if isinstance(key, str) else key
        fields = dict(headers or {})
        if value is not None:
            fields[b"authorization"] = b"Bearer " + value

        async def next(ctx, request) -> Response:
            return Response(200)

        try:
            await layer(ctx, Request("GET", "/", headers=fields, peer=peer), next)
        finally:
            if last is not None:
                last.append(ctx)
        return ctx.principal

    return SimpleNamespace(auth=auth, cache=cache, ask=ask, layer=layer, attempts=attempts)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_public_routes_are_not_asked() -> None:
    layer = Authentication(None, None, None, None, None)  # type: ignore[arg-type]
    assert not layer.applies(Route(method="GET", path="/", access=Access.PUBLIC))
    assert all(
        layer.applies(Route(method="GET", path="/", access=access))
        for access in (Access.KEY, Access.ADMIN, Access.LOCAL)
    )


async def test_asked_once_then_known(house) -> None:
    for _ in range(3):
        assert await house.ask() == MEMBER
    assert house.auth.asked == [KEY]


async def test_many_requests_with_a_new_key_ask_once(house) -> None:
    house.auth.gate.clear()
    tasks = [asyncio.create_task(house.ask()) for _ in range(20)]
    await settle()
    house.auth.gate.set()
    assert await asyncio.gather(*tasks) == [MEMBER] * 20
    assert house.auth.asked == [KEY]


async def test_one_that_leaves_does_not_take_the_answer_from_the_others(house) -> None:
    house.auth.gate.clear()
    first, second = (asyncio.create_task(house.ask()) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    house.auth.gate.set()
    assert await second == MEMBER


async def test_a_known_key_is_renewed_behind_the_request(house, clock) -> None:
    await house.ask()
    clock.advance(FRESH - 0.1)
    await house.ask()
    assert len(house.auth.asked) == 1
    clock.advance(0.2)
    house.auth.gate.clear()
    assert await house.ask() == MEMBER  # at once, while auth is asked
    assert await house.ask() == MEMBER
    await settle()
    assert len(house.auth.asked) == 2
    house.auth.gate.set()
    await settle()
    assert await house.ask() == MEMBER
    assert len(house.auth.asked) == 2


async def test_a_renewal_may_find_it_revoked(house, clock) -> None:
    await house.ask()
    house.auth.verdicts.clear()
    clock.advance(FRESH)
    assert await house.ask() == MEMBER
    await settle()
    with pytest.raises(Unauthenticated):
        await house.ask()


async def test_a_renewal_may_bring_other_rights(house, clock) -> None:
    await house.ask()
    house.auth.verdicts[KEY] = Verdict(principal=ADMIN)
    clock.advance(FRESH)
    await house.ask()
    await settle()
    assert await house.ask() == ADMIN


async def test_while_auth_is_away_known_keys_work_for_a_day(house, clock, log) -> None:
    await house.ask()
    house.auth.error = Unavailable("down")
    for _ in range(24):
        clock.advance(MAX_STALE / 24 - 1)
        assert await house.ask() == MEMBER
        await settle()
    assert ("warning", "known key not renewed") in [line[:2] for line in log.lines]
    clock.advance(60)
    with pytest.raises(Unavailable):
        await house.ask()


async def test_while_auth_is_away_it_is_not_asked_for_every_request(house, clock) -> None:
    await house.ask()
    house.auth.error = Unavailable("down")
    clock.advance(FRESH)
    for _ in range(50):
        await house.ask()
        await settle()
    assert len(house.auth.asked) == 2
    clock.advance(UNKNOWN_FRESH)
    await house.ask()
    await settle()
    assert len(house.auth.asked) == 3


async def test_a_bug_in_renewing_is_told_and_locks_nobody_out(house, clock, log) -> None:
    await house.ask()
    house.auth.error = ZeroDivisionError()
    clock.advance(FRESH)
    assert await house.ask() == MEMBER
    await settle()
    assert [line[0] for line in log.lines] == ["error"]
    assert await house.ask() == MEMBER


@pytest.mark.parametrize("error", [Unavailable("database exhausted"), MoonpoolError("x")])
async def test_while_auth_is_away_unknown_keys_are_never_refused_for_good(house, error) -> None:
    house.auth.error = error
    for _ in range(10):
        with pytest.raises(MoonpoolError) as raised:
            await house.ask()
        assert raised.value.status >= 500
    house.auth.error = None
    assert await house.ask() == MEMBER  # and none of it counted as a failed attempt


async def test_unavailable_says_when_to_try_again(house) -> None:
    house.auth.error = Unavailable("down")
    with pytest.raises(Unavailable) as raised:
        await house.ask()
    assert (raised.value.code, raised.value.retry_after) == ("auth_unavailable", 1.0)


async def test_an_unknown_key_is_remembered_for_a_moment(house, clock) -> None:
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await house.ask(OTHER)
    assert house.auth.asked == [OTHER]
    clock.advance(UNKNOWN_FRESH)
    house.auth.verdicts[OTHER] = Verdict(principal=ADMIN)
    assert await house.ask(OTHER) == ADMIN


async def test_a_key_ends_when_it_ends_auth_or_no_auth(house, clock) -> None:
    house.auth.verdicts[KEY] = Verdict(principal=MEMBER, expires_at=clock.time() + 10)
    await house.ask()
    clock.advance(9.9)
    assert await house.ask() == MEMBER
    clock.advance(0.1)
    house.auth.verdicts.clear()
    with pytest.raises(Unauthenticated):
        await house.ask()


async def test_a_revocation_counts_at_once(house) -> None:
    house.auth.verdicts[OTHER] = Verdict(principal=ADMIN)
    await house.ask()
    await house.ask(OTHER)
    house.auth.verdicts.clear()
    house.cache.revoke("key_1")
    house.cache.revoke("key_of_nobody")
    with pytest.raises(Unauthenticated):
        await house.ask()
    assert await house.ask(OTHER) == ADMIN


async def guess(house, number: int, *, peer: str = "10.0.0.1") -> int:
    """How many of that many different wrong keys were not asked about."""
    refused = 0
    for n in range(number):
        try:
            await house.ask(f"{OTHER}{n}", peer=peer)
        except RateLimited:
            refused += 1
        except Unauthenticated:
            pass
    return refused


async def test_failed_attempts_are_bounded_by_address_and_stop_no_known_key(house, clock) -> None:
    await house.ask()
    assert await guess(house, 1000) >= 1000 - 3 - LANES
    asked = len(house.auth.asked)
    with pytest.raises(RateLimited) as raised:
        await house.ask(f"{OTHER}999")
    assert raised.value.retry_after == pytest.approx(1.0)
    assert len(house.auth.asked) == asked
    assert await house.ask() == MEMBER
    with pytest.raises(Unauthenticated):
        await house.ask(OTHER, peer="10.0.0.2")
    clock.advance(1.0)
    with pytest.raises(Unauthenticated):
        await house.ask(f"{OTHER}999")


async def test_who_guesses_does_not_stop_the_first_use_of_others_behind_the_address(house, clock) -> None:
    """As after a gateway's restart, when no key is known. Nine guesses in ten seconds, nine keys new."""
    keys = [f"sk-new-{n}-{'x' * 30}" for n in range(9)]
    house.auth.verdicts.update({key: Verdict(principal=MEMBER) for key in keys})
    house.layer._attempts = FailedAttempts(clock, per_minute=1, burst=3)
    assert await guess(house, 12) <= 1
    let_in = 0
    for key in keys:
        with contextlib.suppress(RateLimited):
            let_in += await house.ask(key) == MEMBER
    assert let_in >= 5
    clock.advance(10.0)
    assert [await house.ask(key) for key in keys] == [MEMBER] * 9  # at the latest when tried again


async def test_a_wrong_key_tried_again_and_again_is_no_guessing(house) -> None:
    for _ in range(100):
        with pytest.raises(Unauthenticated):
            await house.ask(OTHER)
    assert house.attempts.blocked("10.0.0.1") is None
    assert await house.ask() == MEMBER


@pytest.mark.parametrize("known", [False, True])
async def test_a_revocation_wins_over_a_verdict_that_is_on_its_way(house, clock, known: bool) -> None:
    if known:
        await house.ask()
        clock.advance(FRESH)
    house.auth.gate.clear()
    asking = asyncio.create_task(house.ask())
    await settle()
    house.cache.revoke("key_1")
    house.auth.gate.set()  # it answers as it saw things before: the key is good
    if known:
        assert await asking == MEMBER  # was let in before the revocation
        await settle()
    else:
        with pytest.raises(Unauthenticated):
            await asking
    with pytest.raises(Unauthenticated):
        await house.ask()


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({b"authorization": b""}, "invalid_authorization"),
        ({b"authorization": b"Bearer"}, "invalid_authorization"),
        ({b"authorization": b"Bearer  "}, "invalid_authorization"),
        ({b"authorization": b"Basic dXNlcjpwYXNz"}, "invalid_authorization"),
        ({b"authorization": b"Bearer " + b"x" * 513}, "invalid_authorization"),
    ],
)
async def test_what_is_no_key_is_not_asked_about(house, headers, code: str) -> None:
    with pytest.raises(Unauthenticated) as raised:
        await house.ask(None, headers=headers)
    assert raised.value.code == code
    assert house.auth.asked == []


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER"])
async def test_the_scheme_s_case_does_not_matter(house, scheme: bytes) -> None:
    assert await house.ask(None, headers={b"authorization": scheme + b"  " + KEY.encode() + b" "}) == MEMBER


@pytest.mark.parametrize("key", [OTHER, "short", "x" * 16, "x" * 17, b"\xff" * 40, "sk-" + "é" * 30])
async def test_no_answer_and_no_record_shows_a_whole_key(house, key) -> None:
    last: list = []
    with pytest.raises(Unauthenticated) as raised:
        await house.ask(key, last=last)
    text = key.decode("latin-1") if isinstance(key, bytes) else key
    shown = f"{raised.value.message} {raised.value.hint} {last[0].decisions}"
    assert text not in shown
    assert raised.value.message.isascii() or "…" in raised.value.message
    assert all(text[start : start + 11] not in shown for start in range(max(1, len(text) - 10)))


async def test_the_cache_holds_no_key(house) -> None:
    await house.ask()
    with pytest.raises(Unauthenticated):
        await house.ask(OTHER)
    held = repr([vars(house.cache), [e.key for e in house.cache._known.values()]])
    assert KEY not in held
    assert OTHER not in held


@pytest.mark.parametrize(
    ("access", "scope", "principal", "allowed"),
    [
        (Access.KEY, "", MEMBER, True),
        (Access.KEY, "chat", MEMBER, True),
        (Access.ADMIN, "", MEMBER, False),
        (Access.ADMIN, "", ADMIN, True),
        (Access.LOCAL, "", MEMBER, False),
        (Access.LOCAL, "", ADMIN, True),
        (Access.KEY, "chat", Principal(user="u", key="k", scopes=("chat",)), True),
        (Access.KEY, "files", Principal(user="u", key="k", scopes=("chat",)), False),
        (Access.ADMIN, "", Principal(user="u", key="k", role=Role.OWNER, scopes=("chat",)), False),
        (Access.ADMIN, "", Principal(user="u", key="k", role=Role.MEMBER, scopes=("admin",)), False),
    ],
)
async def test_rights(house, access, scope: str, principal: Principal, allowed: bool) -> None:
    house.auth.verdicts[KEY] = Verdict(principal=principal)
    for _ in range(2):  # asked, and from memory
        if allowed:
            assert await house.ask(access=access, scope=scope) == principal
        else:
            with pytest.raises(PermissionDenied):
                await house.ask(access=access, scope=scope)


@pytest.mark.parametrize(
    ("peer", "headers", "local"),
    [
        ("", {}, True),
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("10.0.0.1", {}, False),
        ("127.0.0.2.example", {}, False),
        ("127.0.0.1", {b"x-forwarded-for": b"8.8.8.8"}, False),
        ("127.0.0.1", {b"forwarded": b"for=8.8.8.8"}, False),
    ],
)
async def test_local_callers_need_no_key_unless_a_proxy_brings_them(
    house, peer: str, headers, local: bool
) -> None:
    if local:
        assert (await house.ask(None, peer=peer, headers=headers, access=Access.LOCAL)).anonymous
    else:
        with pytest.raises(Unauthenticated):
            await house.ask(None, peer=peer, headers=headers, access=Access.LOCAL)
    with pytest.raises(Unauthenticated):
        await house.ask(None, peer=peer, headers=headers, access=Access.ADMIN)


def test_memory_is_bounded(clock, monkeypatch) -> None:
    monkeypatch.setattr(authentication, "UNKNOWN_CAPACITY", 5)
    monkeypatch.setattr(authentication, "REVOKED_CAPACITY", 2)
    cache = KeyCache(clock, capacity=5)
    for n in range(20):
        cache.learn(b"known%d" % n, Verdict(principal=Principal(user="u", key=f"key_{n % 3}")))
        cache.learn(b"unknown%d" % n, UNKNOWN)
    assert (len(cache._known), len(cache._unknown)) == (5, 5)
    assert sum(map(len, cache._by_key.values())) == 5
    for n in range(3):
        cache.revoke(f"key_{n}")
    assert (cache._known, cache._by_key, len(cache._revoked)) == ({}, {}, 2)
