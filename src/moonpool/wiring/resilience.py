"""What stands between a request and failing endpoints, once a process: for its clients' requests, and for its
own calls to other services, so that resilience is not only at the edge."""

import random

from structlog.typing import FilteringBoundLogger

from moonpool.balancing.models import Models
from moonpool.balancing.pools import Pools
from moonpool.balancing.services import Services
from moonpool.contracts.resilience import ResilienceConfig
from moonpool.core.clock import Clock
from moonpool.http.client import Client
from moonpool.middleware.attempt import Attempts
from moonpool.middleware.backoff import Backoff
from moonpool.middleware.breakers import Breakers
from moonpool.middleware.circuit_breaker import State
from moonpool.middleware.failover import Failover, TierTable
from moonpool.middleware.hedge import Hedge
from moonpool.middleware.migration import Migration
from moonpool.middleware.restarts import Restarts
from moonpool.middleware.retry import Retry
from moonpool.middleware.retry_budget import RetryBudget


class Resilience:
    def __init__(
        self,
        config: ResilienceConfig,
        *,
        pools: Pools,
        client: Client,
        clock: Clock,
        chance: random.Random,
        log: FilteringBoundLogger,
    ) -> None:
        self.config = config
        self._clock = clock
        self._log = log
        self.models = Models(pools)
        self.breakers = Breakers(config.breaker, chance.random, self._changed)
        self.budget = RetryBudget(config.retry)
        self.attempts = Attempts(client, self.breakers)
        self.restarts = Restarts(config.restart, pools, clock)
        self.table = TierTable(Services(pools), self.models)
        self.migration = Migration(self.models, self.attempts, self.breakers, self.budget)
        self.failover = Failover(
            self.table, self.breakers, self.budget, chance, enough=config.overprovisioning
        )
        self.hedge = Hedge(config.hedge, self.budget)
        backoff = Backoff(config.retry, chance.random)
        self.retry = Retry(config.retry, self.budget, backoff, self.breakers)
        pools.on_gone(lambda endpoint: self.breakers.forget(endpoint.instance))

    def _changed(self, instance: str, old: State, new: State) -> None:
        level = self._log.warning if new is State.OPEN else self._log.info
        level("circuit breaker", endpoint=instance, was=old.value, now=new.value)
