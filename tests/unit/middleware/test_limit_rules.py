"""From the configuration and a key's own limits to buckets."""

import pytest

from moonpool.contracts.config import CONCURRENT, REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE, LimitConfig
from moonpool.core.message import Request
from moonpool.core.principal import ANONYMOUS, KeyLimits, Principal
from moonpool.middleware.limit_rules import NO_PLAN, LimitRules, Plan, joined

KEY = Principal(user="user_1", tenant="org_1", key="key_1")
SESSION = Principal(user="user_1", tenant="org_1")
OWN = Principal(user="user_1", tenant="org_1", key="key_1", limits=KeyLimits(requests_per_minute=7))


def numbers(plan: Plan) -> dict[str, int]:
    """Every bucket with its bound."""
    rates = {rate.key: rate.quota for rate in (*plan.requests, *plan.tokens)}
    return rates | {slot.key: slot.places for slot in plan.slots}


def limit(requests: int | None = None, tokens: int | None = None, places: int | None = None) -> LimitConfig:
    return LimitConfig(requests_per_minute=requests, tokens_per_minute=tokens, concurrent=places)


def test_without_configuration() -> None:
    rules = LimitRules({})
    assert numbers(rules.caller(KEY)) == {
        "requests:key:key_1": REQUESTS_PER_MINUTE,
        "tokens:key:key_1": TOKENS_PER_MINUTE,
        "concurrent:key:key_1": CONCURRENT,
    }
    assert set(numbers(rules.caller(SESSION))) == {
        "requests:session:user_1",
        "tokens:session:user_1",
        "concurrent:session:user_1",
    }


@pytest.mark.parametrize(
    "principal", [ANONYMOUS, Principal(service="chat"), Principal(service="chat", user="u")]
)
def test_those_without_limits(principal: Principal) -> None:
    assert LimitRules({"user:*": limit(1)}).caller(principal) is NO_PLAN


@pytest.mark.parametrize(
    ("limits", "principal", "requests", "tokens"),
    [
        ({"default": limit(5)}, KEY, 5, TOKENS_PER_MINUTE),
        ({"default": limit(5, 6)}, OWN, 7, 6),
        ({"default": limit(5, 6), "key:key_1": limit(tokens=9)}, OWN, 7, 9),
        ({"default": limit(5, 6), "key:key_1": limit(8)}, OWN, 8, 6),
        ({"key:key_2": limit(8)}, KEY, REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE),
        ({"default": limit(5), "key:key_1": limit(8)}, SESSION, 5, TOKENS_PER_MINUTE),
    ],
)
def test_the_most_particular_wins(
    limits: dict[str, LimitConfig], principal: Principal, requests: int, tokens: int
) -> None:
    plan = LimitRules(limits).caller(principal)
    assert (plan.requests[0].quota, plan.tokens[0].quota) == (requests, tokens)


def test_user_and_organisation_hold_beside_the_key() -> None:
    rules = LimitRules({"user:*": limit(50), "user:user_1": limit(60), "organisation:org_1": limit(tokens=9)})
    found = numbers(rules.caller(KEY))
    assert found["requests:user:user_1"] == 60
    assert found["tokens:organisation:org_1"] == 9
    assert "requests:key:key_1" in found
    other = numbers(rules.caller(Principal(user="user_2", tenant="org_2", key="key_2")))
    assert other["requests:user:user_2"] == 50
    assert "tokens:organisation:org_2" not in other


def test_models_and_what_is_not_limited() -> None:
    rules = LimitRules({"model:a": limit(places=2), "model:*": limit(30)})
    assert numbers(rules.model("a")) == {"requests:model:a": 30, "concurrent:model:a": 2}
    assert numbers(rules.model("b")) == {"requests:model:b": 30}
    assert LimitRules({"model:a": limit(1)}).model("b") is NO_PLAN


@pytest.mark.parametrize(
    ("peer", "bucket"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1:ffff::9", "2001:db8:0:1::"),
        ("2001:db8:0:1::1", "2001:db8:0:1::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", None),
    ],
)
def test_addresses(make_ctx, peer: str, bucket: str | None) -> None:
    rules = LimitRules({"address:*": limit(3)})
    plan = rules.plan(make_ctx(principal=ANONYMOUS), Request("GET", "/", peer=peer))
    assert list(numbers(plan)) == ([f"requests:address:{bucket}"] if bucket else [])


def test_one_address_and_routes(make_ctx) -> None:
    rules = LimitRules({"address:192.0.2.7": limit(3), "route:/v1/chat/completions": limit(4)})
    found = numbers(rules.plan(make_ctx(), Request("POST", "/x", peer="192.0.2.7")))
    assert found["requests:address:192.0.2.7"] == 3
    assert found["requests:route:/v1/chat/completions"] == 4
    assert rules.plan(make_ctx(), Request("POST", "/x", peer="192.0.2.8")).requests[1].quota == 4


def test_plans_are_made_once_and_for_who_it_is_now() -> None:
    rules = LimitRules({})
    assert rules.caller(KEY) is rules.caller(KEY)
    assert rules.caller(OWN).requests[0].quota == 7  # the same key, granted other limits since
    assert rules.caller(KEY).requests[0].quota == REQUESTS_PER_MINUTE


def test_update() -> None:
    rules = LimitRules({})
    rules.update({"default": limit(5), "model:*": limit(1)})
    assert rules.caller(KEY).requests[0].quota == 5
    assert rules.by_model


def test_bursts() -> None:
    rules = LimitRules({"default": LimitConfig(burst=9)})
    assert rules.caller(KEY).requests[0].burst == 9
    assert LimitRules({}).caller(KEY).requests[0].burst == REQUESTS_PER_MINUTE
    assert rules.caller(OWN).requests[0].burst == 7  # the default's burst is of the default's rate


def test_headers_of_a_plan() -> None:
    plan = LimitRules({"default": limit(10, 20, 3), "user:*": limit(30)}).caller(KEY)
    assert plan.policy == (
        b"ratelimit-policy",
        b'"requests";q=10;w=60, "requests-user";q=30;w=60, "concurrent";q=3;qu="concurrent-requests"',
    )
    assert plan.token_policy == (b"ratelimit-policy", b'"tokens";q=20;w=60;qu="tokens"')
    assert joined(plan.token_policy, NO_PLAN.policy) == plan.token_policy
    assert plan.most_tokens == 20
