from random import Random

import pytest

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.lease import Lease
from moonpool.balancing.web import WebBalancer
from moonpool.core.clock import ManualClock
from moonpool.core.errors import Unavailable
from moonpool.http.address import Address


def endpoints(*weights: int) -> list[Endpoint]:
    return [
        Endpoint(Address.parse(f"unix:/run/{n}.sock"), instance=str(n), release="v1", weight=weight)
        for n, weight in enumerate(weights)
    ]


def test_fills_evenly() -> None:
    pool, clock, balancer = endpoints(1, 1, 1, 1), ManualClock(), WebBalancer(Random(1))
    for _ in range(400):
        Lease(balancer.pick(pool), clock)
    assert max(e.active for e in pool) - min(e.active for e in pool) <= 5


def test_fills_by_weight() -> None:
    pool, clock, balancer = endpoints(1, 3), ManualClock(), WebBalancer(Random(1))
    for _ in range(400):
        Lease(balancer.pick(pool), clock)
    assert 90 <= pool[0].active <= 110


def test_none_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        WebBalancer(Random(1)).pick([])
