"""The version router: precedence, buckets that stay, and what it does about what is not there."""

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from moonpool.contracts.routing import (
    FULL,
    REQUEST_HEADER,
    Cohort,
    CookieRule,
    Epoch,
    HeaderUse,
    Mirror,
    Pins,
    Routing,
    Share,
    Unit,
    everything_to,
)
from moonpool.core.clock import ManualClock
from moonpool.core.ids import new_id
from moonpool.core.principal import ANONYMOUS, Principal, Role
from moonpool.upgrade.buckets import Buckets
from moonpool.upgrade.router import Router, time_of

ADMIN = Principal(user="root", tenant="org", role=Role.ADMIN)
MEMBER = Principal(user="ann", tenant="org", role=Role.MEMBER)
ASK_V2 = {REQUEST_HEADER: b"inference@v9, chat@v2"}


def routing(weight: int = 0, **more: Any) -> Routing:
    shares = (Share(release="v1"), Share(release="v2", weight=weight))
    return Routing(service="chat", default="v1", shares=shares, salt="s", **more)


def router(document: Routing, ready: Mapping[str, int] | None = None, seed: int = 1) -> Router:
    return Router(document, ready, Buckets(document.salt), random.Random(seed).random)


def user(number: int) -> Principal:
    return Principal(user=f"user_{number}", tenant=f"org_{number % 7}", role=Role.MEMBER)


def test_one_release_without_rules_is_one_answer() -> None:
    only = router(everything_to("chat", "v1")).only

    assert only == ("v1", "only release")


def test_a_release_at_rest_is_reached_by_admins_only() -> None:
    compiled = router(routing())

    assert compiled.only is None
    assert compiled.route(ADMIN, "", ASK_V2) == ("v2", "header")
    assert compiled.route(MEMBER, "", ASK_V2) == (
        "v1",
        "bucket, 100 %; the header is not for this caller",
    )


@pytest.mark.parametrize(
    ("use", "caller", "release"),
    [
        (HeaderUse.NOBODY, ADMIN, "v1"),
        (HeaderUse.ADMINS, ANONYMOUS, "v1"),
        (HeaderUse.CALLERS, MEMBER, "v2"),
        (HeaderUse.CALLERS, ANONYMOUS, "v1"),
        (HeaderUse.EVERYBODY, ANONYMOUS, "v2"),
    ],
)
def test_who_may_choose_by_header(use: HeaderUse, caller: Principal, release: str) -> None:
    assert router(routing(header=use)).route(caller, "192.0.2.1", ASK_V2).release == release


def test_a_limited_admin_key_may_not_choose_by_header() -> None:
    limited = Principal(user="root", tenant="org", role=Role.ADMIN, scopes=("inference",))

    assert router(routing()).route(limited, "", ASK_V2).release == "v1"


@pytest.mark.parametrize("asked", [b"chat@v7", b"chat@", b"v2", b"chat@v2\x00", b"\xff\xfe", b"user@v2"])
def test_a_header_for_what_is_not_there_is_not_heeded(asked: bytes) -> None:
    assert router(routing()).route(ADMIN, "", {REQUEST_HEADER: asked}).release == "v1"


def test_a_cohort_may_be_let_choose() -> None:
    testers = Cohort(name="testers", release="v2", users=("ann",), header=True)
    compiled = router(routing(cohorts=(testers,)))

    assert compiled.route(MEMBER, "", {}) == ("v2", "cohort testers")
    assert compiled.route(MEMBER, "", {REQUEST_HEADER: b"chat@v1"}) == ("v1", "header")


def everything_on(weight: int = FULL, **more: Any) -> Routing:
    """A document in which every rule says something for ann: v2 by weight, v1 by everything else."""
    rules: dict[str, Any] = {
        "header": HeaderUse.CALLERS,
        "cohorts": (Cohort(name="c", release="v3", users=("ann",)),),
        "cookie": CookieRule(releases=("v4",)),
        "pins": Pins(conversations={"conv": "v5"}),
    }
    shares = tuple(Share(release=f"v{n}", weight=weight if n == 2 else 0) for n in range(1, 7))
    return Routing(service="chat", default="v1", shares=shares, **(rules | more))


COOKIE = {b"cookie": b"a=b; moonpool-release=v4; c=d"}


@pytest.mark.parametrize(
    ("headers", "conversation", "changed", "expected"),
    [
        (COOKIE | {REQUEST_HEADER: b"chat@v6"}, "conv", {}, ("v6", "header")),
        (COOKIE, "conv", {}, ("v5", "pin, by hand")),
        (COOKIE, "other", {}, ("v3", "cohort c")),
        (COOKIE, None, {"cohorts": ()}, ("v4", "cookie")),
        ({}, None, {"cohorts": ()}, ("v2", "bucket, 100 %")),
        # killed stands above all of them
        (COOKIE, "conv", {"killed": ("v5",)}, ("v3", "cohort c")),
        (COOKIE, "conv", {"killed": ("v5", "v3")}, ("v4", "cookie")),
        (COOKIE, "conv", {"killed": ("v5", "v3", "v4")}, ("v2", "bucket, 100 %")),
        (COOKIE, "conv", {"killed": ("v5", "v3", "v4", "v2")}, ("v1", "bucket, 100 %")),
    ],
)
def test_precedence(
    headers: dict[bytes, bytes], conversation: str | None, changed: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert router(everything_on(**changed)).route(MEMBER, "", headers, conversation) == expected


def test_the_header_does_not_reach_what_is_killed() -> None:
    compiled = router(everything_on(killed=("v6",)))

    assert compiled.route(MEMBER, "", {REQUEST_HEADER: b"chat@v6"}).release == "v3"


def test_no_rule_reaches_what_is_not_ready() -> None:
    compiled = router(everything_on(), {"v1": 1})

    assert compiled.only is not None
    assert compiled.only.release == "v1"
    assert compiled.route(MEMBER, "", COOKIE | {REQUEST_HEADER: b"chat@v6"}, "conv").release == "v1"


# ── buckets ──────────────────────────────────────────────────────────────────────────────────────────


def test_shares_are_the_weights() -> None:
    compiled = router(routing(2_500))
    counts = Counter(compiled.route(user(n), "", {}).release for n in range(20_000))

    assert abs(counts["v2"] - 5_000) < 3 * (20_000 * 0.25 * 0.75) ** 0.5


def test_what_is_drawn_for_each_request_is_the_weight_for_one_caller() -> None:
    compiled = router(routing(500, unit=Unit.REQUEST))
    counts = Counter(compiled.route(MEMBER, "", {}).release for _ in range(20_000))

    assert abs(counts["v2"] - 1_000) < 3 * (20_000 * 0.05 * 0.95) ** 0.5


def test_a_tenant_stays_together() -> None:
    compiled = router(routing(5_000, unit=Unit.TENANT))
    seen: dict[str, set[str]] = {}
    for number in range(700):
        caller = user(number)
        seen.setdefault(caller.tenant, set()).add(compiled.route(caller, "", {}).release)

    assert all(len(releases) == 1 for releases in seen.values())
    assert len(set().union(*seen.values())) == 2


def test_unknown_callers_are_told_apart_by_address() -> None:
    compiled = router(routing(5_000))
    answers = [compiled.route(ANONYMOUS, f"192.0.2.{n}", {}).release for n in range(250)]

    assert answers == [compiled.route(ANONYMOUS, f"192.0.2.{n}", {}).release for n in range(250)]
    assert 80 < answers.count("v2") < 170


def test_an_ipv6_host_that_changes_its_last_half_stays() -> None:
    compiled = router(routing(5_000))
    answers = {compiled.route(ANONYMOUS, f"2001:db8:7::{n:x}", {}).release for n in range(64)}
    networks = {compiled.route(ANONYMOUS, f"2001:db8:{n:x}::1", {}).release for n in range(64)}

    assert len(answers) == 1
    assert len(networks) == 2


@settings(deadline=None, max_examples=60)
@given(
    weights=st.lists(st.integers(0, FULL), min_size=2, max_size=6),
    salt=st.text(max_size=10),
    names=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=40),
)
def test_whoever_met_the_new_release_stays_while_its_weight_grows(
    weights: list[int], salt: str, names: list[str]
) -> None:
    met: set[str] = set()
    for weight in sorted(weights):
        shares = (Share(release="new", weight=weight), Share(release="old"))
        compiled = router(Routing(service="chat", default="old", shares=shares, salt=salt))
        now = {n for n in names if compiled.route(Principal(user=n), "", {}).release == "new"}
        assert met <= now
        met = now


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 5_000)), min_size=2, max_size=5))
def test_two_new_releases_grow_beside_each_other(steps: list[tuple[int, int]]) -> None:
    first, second = sorted(a for a, _ in steps), sorted(b for _, b in steps)
    met: tuple[set[str], set[str]] = (set(), set())
    for a, b in zip(first, second, strict=True):
        shares = (Share(release="a", weight=a), Share(release="b", weight=b), Share(release="old"))
        compiled = router(Routing(service="chat", default="old", shares=shares))
        got = {str(n): compiled.route(Principal(user=str(n)), "", {}).release for n in range(200)}
        now = ({n for n in got if got[n] == "a"}, {n for n in got if got[n] == "b"})
        assert met[0] <= now[0]
        assert met[1] <= now[1]
        met = now


def test_another_salt_is_another_draw() -> None:
    one, other = (
        router(Routing(service="chat", default="v1", shares=routing(5_000).shares, salt=salt))
        for salt in "ab"
    )
    same = sum(
        one.route(user(n), "", {}).release == other.route(user(n), "", {}).release for n in range(2_000)
    )

    assert 850 < same < 1_150  # independent: half of them


# ── pins ─────────────────────────────────────────────────────────────────────────────────────────────


def conversation_of(at: float) -> str:
    return new_id("conv", ManualClock(wall=at))


def test_the_time_of_an_id() -> None:
    began = time_of(conversation_of(1_700_000_123.456))

    assert began == pytest.approx(1_700_000_123.456, abs=0.002)
    assert time_of("conv_short") is None
    assert time_of("!" * 26) is None


def with_epochs(weight: int, unit: Unit = Unit.USER, **more: Any) -> Routing:
    epochs = (
        Epoch(since=0.0, default="v1", shares=(Share(release="v1"),)),
        Epoch(since=1_000.0, default="v1", shares=(Share(release="v1"), Share(release="v2", weight=5_000))),
        Epoch(since=2_000.0, default="v1", shares=(Share(release="v1"), Share(release="v2", weight=FULL))),
    )
    return routing(weight, pins=Pins(epochs=epochs), unit=unit, **more)


@pytest.mark.parametrize("unit", [Unit.USER, Unit.REQUEST])
def test_a_conversation_stays_with_the_release_that_began_it(unit: Unit) -> None:
    half, full = router(with_epochs(5_000, unit)), router(with_epochs(FULL, unit), seed=2)
    before, during, after = conversation_of(500.0), conversation_of(1_500.0), conversation_of(2_500.0)
    began = half.route(MEMBER, "", {}, during).release

    assert full.route(MEMBER, "", {}, before) == ("v1", "pin, began there")
    assert full.route(MEMBER, "", {}, during).release == began
    assert full.route(MEMBER, "", {}, after) == ("v2", "pin, began there")


def test_pins_are_shared_out_by_the_weights_of_their_time() -> None:
    compiled = router(with_epochs(FULL))
    during = conversation_of(1_500.0)
    counts = Counter(compiled.route(user(n), "", {}, during).release for n in range(2_000))

    assert 880 < counts["v2"] < 1_120


def test_pins_hold_when_the_new_release_becomes_the_default() -> None:
    before, during = router(with_epochs(FULL)), conversation_of(1_500.0)
    promoted = replace(
        before.routing, default="v2", shares=(Share(release="v1"), Share(release="v2", weight=FULL))
    )
    after = router(promoted)

    for number in range(50):
        caller = user(number)
        assert after.route(caller, "", {}, during) == before.route(caller, "", {}, during)


def test_a_pin_to_what_is_gone_says_nothing() -> None:
    compiled = router(with_epochs(FULL), {"v2": 1})

    assert compiled.route(MEMBER, "", {}, conversation_of(500.0)).release == "v2"


# ── the shadow ───────────────────────────────────────────────────────────────────────────────────────


def test_a_shadow_gets_its_share_of_copies() -> None:
    compiled = router(routing(mirror=Mirror(release="v9", share=2_000)))
    copies = sum(compiled.shadow_of("v1") is not None for _ in range(5_000))

    assert 900 < copies < 1_100
    assert compiled.shadow_of("v9") is None


@pytest.mark.parametrize(
    ("document", "ready"),
    [
        (routing(), None),
        (routing(mirror=Mirror(release="v9"), killed=("v9",)), None),
        (routing(mirror=Mirror(release="v9", share=0)), None),
        (routing(mirror=Mirror(release="v9")), {"v1": 1}),
    ],
)
def test_no_copies(document: Routing, ready: Mapping[str, int] | None) -> None:
    assert router(document, ready).shadow_of("v1") is None


def test_a_shadow_is_not_reached_by_header() -> None:
    compiled = router(routing(mirror=Mirror(release="v9")), {"v1": 1, "v2": 1, "v9": 1})

    assert compiled.route(ADMIN, "", {REQUEST_HEADER: b"chat@v9"}).release == "v1"
