"""The inference balancer: soonest answer, prefix affinity bounded by imbalance, admission by priority."""

from collections import Counter
from random import Random

import pytest

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.inference import (
    IMBALANCE_ABSOLUTE,
    SATURATION,
    InferenceBalancer,
    Prompt,
)
from moonpool.balancing.lease import Lease
from moonpool.balancing.prefix import BLOCK
from moonpool.core.clock import ManualClock
from moonpool.core.errors import Overloaded, Unavailable
from moonpool.http.address import Address


class Never(Random):
    """No exploration; choices as usual."""

    def random(self) -> float:
        return 0.5


def endpoints(count: int) -> list[Endpoint]:
    return [
        Endpoint(Address.parse(f"unix:/run/{n}.sock"), instance=str(n), release="v1") for n in range(count)
    ]


def balancer(random: Random | None = None) -> InferenceBalancer:
    return InferenceBalancer(ManualClock(), random or Never(1))


LONG = b"".join(b"%08d" % n for n in range(BLOCK))
"""Eight blocks, each different."""


def test_the_shorter_queue_answers_sooner() -> None:
    pool = endpoints(3)
    pool[0].queued_tokens, pool[1].queued_tokens, pool[2].queued_tokens = 500, 100, 1000
    assert balancer().pick(pool, Prompt(b"hi")).endpoint is pool[1]


def test_a_faster_prefill_makes_up_for_a_longer_queue() -> None:
    pool = endpoints(2)
    pool[0].queued_tokens, pool[0].prefill_rate = 1000, 10_000.0
    pool[1].queued_tokens, pool[1].prefill_rate = 500, 100.0
    assert balancer().pick(pool, Prompt(b"hi")).endpoint is pool[0]


def test_owed_answers_count() -> None:
    pool = endpoints(2)
    pool[0].tokens = 5000
    assert balancer().pick(pool, Prompt(b"hi")).endpoint is pool[1]


def test_recent_failures_count() -> None:
    pool = endpoints(2)
    pool[0].fail(ManualClock().monotonic())
    assert balancer().pick(pool, Prompt(b"hi")).endpoint is pool[1]


@pytest.mark.parametrize(("shared", "kept"), [(8, True), (4, True), (3, False), (0, False)])
def test_half_of_the_prompt_cached_is_a_reason_to_stay(shared: int, kept: bool) -> None:
    pool = endpoints(2)
    one = balancer()
    first = one.pick(pool, Prompt(LONG)).endpoint
    first.queued_tokens = 100_000  # the other would be sooner by far
    prompt = Prompt(LONG[: shared * BLOCK] + b"z" * (8 - shared) * BLOCK)
    assert (one.pick(pool, prompt).endpoint is first) == kept


@pytest.mark.parametrize(
    ("busy", "idle", "kept"),
    [
        (IMBALANCE_ABSOLUTE, 0, True),
        (IMBALANCE_ABSOLUTE + 1, 0, False),
        (440, 400, True),  # 40 more, but not more than 1.1 times
        (441, 400, False),
    ],
)
def test_affinity_ends_where_the_imbalance_costs_more(busy: int, idle: int, kept: bool) -> None:
    pool = endpoints(2)
    one = balancer()
    holder = one.pick(pool, Prompt(LONG)).endpoint
    (other,) = (e for e in pool if e is not holder)
    holder.active, other.active = busy, idle
    holder.queued_tokens = 100_000
    assert (one.pick(pool, Prompt(LONG, priority=0)).endpoint is holder) == kept


def test_one_pick_in_a_hundred_explores() -> None:
    pool = endpoints(2)
    pool[0].queued_tokens = 100_000
    one = balancer(Random(7))
    reasons = Counter(one.pick(pool, Prompt(b"hi")).reason.split()[0] for _ in range(5000))
    assert 25 <= reasons["exploration"] <= 80


def test_idle_equals_share() -> None:
    one = balancer(Random(7))
    pool = endpoints(4)
    picked = Counter(one.pick(pool, Prompt(b"hi")).endpoint.instance for _ in range(2000))
    assert all(400 < picked[name] < 600 for name in "0123")


@pytest.mark.parametrize(
    ("priority", "bound"), [(0, None), (1, SATURATION), (2, SATURATION // 2), (7, SATURATION // 2)]
)
def test_the_less_important_is_shed_first(priority: int, bound: int | None) -> None:
    pool = endpoints(2)
    prompt = Prompt(b"hi", priority=priority)
    for endpoint in pool:
        endpoint.active = 10_000 if bound is None else bound - 1
    balancer().pick(pool, prompt)
    if bound is None:
        return
    for endpoint in pool:
        endpoint.active = bound
    with pytest.raises(Overloaded) as raised:
        balancer().pick(pool, prompt)
    assert raised.value.retry_after


def test_the_saturated_are_left_to_the_important() -> None:
    pool = endpoints(2)
    pool[0].active, pool[0].prefill_rate = SATURATION, 1e9
    pool[1].queued_tokens, pool[1].prefill_rate = 10_000, 500.0
    assert balancer().pick(pool, Prompt(b"hi", priority=1)).endpoint is pool[1]
    assert balancer().pick(pool, Prompt(b"hi", priority=0)).endpoint is pool[0]


def test_one_instance_is_admitted_to_as_well() -> None:
    (only,) = pool = endpoints(1)
    assert balancer().pick(pool, Prompt(b"hi")).endpoint is only
    only.active = SATURATION
    with pytest.raises(Overloaded):
        balancer().pick(pool, Prompt(b"hi"))


def test_an_instance_that_is_gone_has_no_cache() -> None:
    pool = endpoints(2)
    one = balancer()
    holder = one.pick(pool, Prompt(LONG)).endpoint
    holder.queued_tokens = 100_000
    one.forget(holder.instance)
    assert one.pick(pool, Prompt(LONG)).endpoint is not holder


def test_none_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        balancer().pick([], Prompt(b"hi"))


def weighted(*weights: int) -> list[Endpoint]:
    pool = endpoints(len(weights))
    for endpoint, weight in zip(pool, weights, strict=True):
        endpoint.weight = weight
    return pool


def shares(pool: list[Endpoint], prompt: Prompt, *weights: int, times: int = 4000) -> list[float]:
    one = balancer(Random(7))
    counts = Counter(one.pick(pool, prompt, weights or None).place for _ in range(times))
    return [counts[place] / times for place in range(len(pool))]


@pytest.mark.parametrize("text", [b"hi", LONG])
@pytest.mark.parametrize("rates", [(0.0, 0.0), (500.0, 0.0), (0.0, 80.0), (500.0, 450.0)])
def test_idle_targets_share_by_weight(text: bytes, rates: tuple[float, float]) -> None:
    """Whatever was measured or not, and also when one has the prompt in its cache."""
    pool = weighted(1, 3)
    for endpoint, rate in zip(pool, rates, strict=True):
        endpoint.prefill_rate = rate
    assert shares(pool, Prompt(text)) == pytest.approx([0.25, 0.75], abs=0.03)


def test_busy_targets_share_by_weight() -> None:
    pool, one, clock = weighted(1, 3), balancer(Random(7)), ManualClock()
    for _ in range(400):
        endpoint = one.pick(pool, Prompt(b"hi", priority=0)).endpoint
        Lease(endpoint, clock, prompt=100, tokens=256)
    assert pool[0].active == pytest.approx(100, abs=10)


def test_two_targets_on_one_endpoint_are_both_chosen() -> None:
    (only,) = endpoints(1)
    assert shares([only, only], Prompt(b"hi"), 1, 3) == pytest.approx([0.25, 0.75], abs=0.03)
    only.tokens, only.queued_tokens = 5000, 5000  # one load, whichever target it came through
    assert shares([only, only], Prompt(b"hi"), 1, 3) == pytest.approx([0.25, 0.75], abs=0.03)


def test_weight_nought_gets_nothing_while_others_have_some() -> None:
    assert shares(weighted(0, 1), Prompt(b"hi")) == [0.0, 1.0]
    assert shares(weighted(0, 0), Prompt(b"hi")) == pytest.approx([0.5, 0.5], abs=0.03)


def test_the_unmeasured_is_not_starved_by_a_fast_one() -> None:
    pool = endpoints(2)
    pool[0].prefill_rate = 20_000.0
    assert shares(pool, Prompt(b"h" * 200)) == pytest.approx([0.5, 0.5], abs=0.03)


def test_all_that_have_the_prompt_cached_take_their_turn() -> None:
    pool, one = endpoints(2), balancer(Random(7))
    for endpoint in pool:
        one.pick([endpoint, endpoint], Prompt(LONG))
    counts = Counter(one.pick(pool, Prompt(LONG)).endpoint.instance for _ in range(1000))
    assert 400 < counts["0"] < 600
