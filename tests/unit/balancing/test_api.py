from collections import Counter
from random import Random

import pytest

from moonpool.balancing.api import ApiBalancer
from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.lease import Lease
from moonpool.core.clock import ManualClock
from moonpool.core.errors import Unavailable
from moonpool.http.address import Address


def endpoints(count: int) -> list[Endpoint]:
    return [
        Endpoint(Address.parse(f"unix:/run/{n}.sock"), instance=str(n), release="v1") for n in range(count)
    ]


def simulate(
    latency: dict[str, float], failing: frozenset[str] = frozenset(), rounds: int = 3000
) -> Counter[str]:
    """Requests come every ten milliseconds; each takes its endpoint's time."""
    clock = ManualClock()
    balancer = ApiBalancer(clock, Random(1))
    pool = endpoints(len(latency))
    under_way: list[tuple[float, Lease]] = []
    picked: Counter[str] = Counter()
    for _ in range(rounds):
        clock.advance(0.01)
        done = [entry for entry in under_way if entry[0] <= clock.monotonic()]
        under_way = [entry for entry in under_way if entry[0] > clock.monotonic()]
        for _, lease in done:
            lease.release(failed=lease.endpoint.instance in failing)
        endpoint = balancer.pick(pool)
        picked[endpoint.instance] += 1
        ends = clock.monotonic() + latency[endpoint.instance]
        under_way.append((ends, Lease(endpoint, clock)))
    return picked


def test_equals_share_evenly() -> None:
    picked = simulate({"0": 0.05, "1": 0.05, "2": 0.05, "3": 0.05})
    assert all(600 < picked[name] < 900 for name in "0123")


def test_the_slow_one_is_avoided() -> None:
    picked = simulate({"0": 0.05, "1": 0.05, "2": 2.0, "3": 0.05})
    assert picked["2"] < 150  # a fifth of a fair share: it is asked now and then whether it has recovered
    assert picked["0"] > 700


def test_one_that_fails_fast_draws_no_traffic() -> None:
    picked = simulate({"0": 0.05, "1": 0.001, "2": 0.05}, failing=frozenset({"1"}))
    assert picked["1"] < 150


def test_load_counts_before_anything_was_measured() -> None:
    clock = ManualClock()
    pool = endpoints(2)
    Lease(pool[0], clock)
    balancer = ApiBalancer(clock, Random(1))
    assert {balancer.pick(pool).instance for _ in range(50)} == {"1"}


def test_the_unready_get_nothing() -> None:
    pool = endpoints(3)
    pool[1].ready = False
    balancer = ApiBalancer(ManualClock(), Random(1))
    assert {balancer.pick(pool).instance for _ in range(100)} == {"0", "2"}


def test_none_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        ApiBalancer(ManualClock(), Random(1)).pick([])


def test_idle_endpoints_share_by_weight() -> None:
    pool = endpoints(2)
    pool[1].weight = 3
    balancer = ApiBalancer(ManualClock(), Random(1))
    picked = Counter(balancer.pick(pool).instance for _ in range(4000))
    assert picked["0"] / 4000 == pytest.approx(0.25, abs=0.03)


def test_busy_endpoints_share_by_weight() -> None:
    clock, pool = ManualClock(), endpoints(2)
    pool[1].weight = 3
    balancer = ApiBalancer(clock, Random(1))
    for _ in range(400):
        Lease(balancer.pick(pool), clock)
    assert pool[0].active == pytest.approx(100, abs=10)
