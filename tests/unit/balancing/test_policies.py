from collections import Counter
from random import Random

import pytest

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.policies import eligible, two_choices
from moonpool.core.errors import Unavailable
from moonpool.http.address import Address


def endpoints(*weights: int) -> list[Endpoint]:
    return [
        Endpoint(Address.parse(f"unix:/run/{n}.sock"), instance=str(n), release="v1", weight=weight)
        for n, weight in enumerate(weights)
    ]


def drawn(pool: list[Endpoint], cost: object = lambda e: 0.0, times: int = 4000) -> list[float]:
    random = Random(1)
    counts = Counter(two_choices(pool, cost, random).instance for _ in range(times))  # type: ignore[arg-type]
    return [counts[e.instance] / times for e in pool]


def test_no_endpoint_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        eligible([])


def test_only_the_ready_are_eligible_unless_none_is() -> None:
    pool = endpoints(1, 1, 1)
    assert eligible(pool) == pool
    pool[1].ready = False
    assert eligible(pool) == [pool[0], pool[2]]
    for endpoint in pool:
        endpoint.ready = False
    assert eligible(pool) == pool


def test_one_endpoint_needs_no_chance() -> None:
    (only,) = pool = endpoints(0)
    assert two_choices(pool, lambda e: 1e9, Random(1)) is only


@pytest.mark.parametrize("weight", [0, 1, 7])
def test_equal_weights_and_costs_share_evenly(weight: int) -> None:
    assert drawn(endpoints(weight, weight, weight, weight)) == pytest.approx([0.25] * 4, abs=0.03)


def test_two_of_equal_cost_share_by_weight() -> None:
    assert drawn(endpoints(1, 3)) == pytest.approx([0.25, 0.75], abs=0.03)


def test_weights_bias_the_draw() -> None:
    light, medium, heavy = drawn(endpoints(1, 2, 4))
    assert light < medium < heavy


def test_weight_nought_gets_nothing_while_others_have_some() -> None:
    assert drawn(endpoints(0, 1, 1))[0] == 0.0
    assert drawn(endpoints(0, 5)) == [0.0, 1.0]


def test_the_costly_one_is_avoided_whenever_another_is_drawn() -> None:
    shares = drawn(endpoints(1, 1, 1, 1), lambda e: 1.0 if e.instance == "2" else 0.0)
    assert shares[2] == 0.0
    assert shares[0] == pytest.approx(1 / 3, abs=0.04)
