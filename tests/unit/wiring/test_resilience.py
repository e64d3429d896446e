"""A change of the policies reaches every part, in one step."""

import random

import pytest
import structlog

from moonpool.balancing.pools import Pools
from moonpool.contracts.resilience import (
    BreakerPolicy,
    HedgePolicy,
    ResilienceConfig,
    RestartPolicy,
    RetryPolicy,
)
from moonpool.core.clock import ManualClock
from moonpool.http.client import Client
from moonpool.middleware.circuit_breaker import State, Verdict
from moonpool.wiring.resilience import Resilience

NOW = 1000.0


@pytest.fixture
def resilience() -> Resilience:
    clock = ManualClock()
    return Resilience(
        ResilienceConfig(),
        pools=Pools(),
        client=Client(clock=clock),
        clock=clock,
        chance=random.Random(1),
        log=structlog.get_logger(),
    )


class Place:
    instance = "chat-0"


def test_every_part_follows_and_keeps_what_it_has(resilience: Resilience) -> None:
    breaker = resilience.breakers.of(Place())
    for _ in range(5):
        permit = breaker.permit(NOW)
        assert permit is not None
        permit.failed(NOW, Verdict.STALL)
    while resilience.budget.withdraw(NOW):
        pass
    left = resilience.budget.available(NOW)
    assert resilience.first_token(1000) == 90.0

    wanted = ResilienceConfig(
        breaker=BreakerPolicy(consecutive_failures=1, first_token_base=1.0, first_token_per_1k=2.0),
        retry=RetryPolicy(attempts=7, budget_per_second=20.0),
        hedge=HedgePolicy(enabled=True),
        restart=RestartPolicy(service_patience=0.0),
        overprovisioning=3.0,
    )
    resilience.update(wanted)

    assert resilience.config == wanted
    assert resilience.breakers.of(Place()) is breaker
    assert (breaker.state, breaker.policy) == (State.OPEN, wanted.breaker)
    assert resilience.budget.available(NOW) == pytest.approx(left + 100.0)
    assert resilience.first_token(1000) == 3.0
    assert resilience.retry._rules.most == 7
    assert resilience.hedge._policy.enabled
    assert resilience.restarts._policy.service_patience == 0.0
    assert resilience.failover._enough == 3.0
