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
from moonpool.middleware.breakers import Breakers
from moonpool.middleware.circuit_breaker import State, first_token_budget
from moonpool.middleware.failover import Failover, TierTable
from moonpool.middleware.hedge import Hedge
from moonpool.middleware.migration import Migration
from moonpool.middleware.restarts import Restarts
from moonpool.middleware.retry import Retry
from moonpool.middleware.retry_budget import RetryBudget


class Resilience:
    """Follows the configuration: what is decided from a change on is decided by the new policy; a request
    keeps the policy of its retries, an attempt its times, a breaker its state, the budget its counts."""

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
        self.retry = Retry(config.retry, self.budget, self.breakers, chance.random)
        pools.on_gone(lambda endpoint: self.breakers.forget(endpoint.instance))

    def update(self, config: ResilienceConfig) -> None:
        """In one step: no request is decided by half of it."""
        if config == self.config:
            return
        self.config = config
        self.breakers.update(config.breaker)
        self.budget.update(config.retry)
        self.retry.update(config.retry)
        self.hedge.update(config.hedge)
        self.restarts.update(config.restart)
        self.failover.update(config.overprovisioning)
        self._log.info("resilience changed")

    def first_token(self, prompt_tokens: int) -> float:
        """Seconds that the first token of such a prompt may take."""
        return first_token_budget(self.config.breaker, prompt_tokens)

    def _changed(self, instance: str, old: State, new: State) -> None:
        level = self._log.warning if new is State.OPEN else self._log.info
        level("circuit breaker", endpoint=instance, was=old.value, now=new.value)
