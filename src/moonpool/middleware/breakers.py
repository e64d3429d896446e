"""The circuit breakers of a process, one an endpoint, and what their states leave of a pool. Pure.

The panic rule (Envoy): when more than half of a pool would be ejected, the rest would be overloaded next;
ejection is then ignored. Three limits to it:
- with nothing left that admits, the answer is nothing: the caller fails fast, and says when to come back;
- an endpoint that nobody listens at (its breaker opened for CONNECT) stays out: it relieves nobody;
- half-open endpoints take their probes and no more: they are about to come back, and a crowd would end that.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from moonpool.contracts.resilience import BreakerPolicy
from moonpool.middleware.circuit_breaker import Breaker, State, Verdict


class HasInstance(Protocol):
    @property
    def instance(self) -> str: ...


E = TypeVar("E", bound=HasInstance)
OnChange = Callable[[str, State, State], None]
"""Instance, old state, new state."""


class Breakers:
    def __init__(
        self, policy: BreakerPolicy, random: Callable[[], float], on_change: OnChange | None = None
    ) -> None:
        self._policy = policy
        self._random = random
        self._on_change = on_change
        self._breakers: dict[str, Breaker] = {}
        self._not_closed = 0

    def update(self, policy: BreakerPolicy) -> None:
        """Of all endpoints, from now on; each keeps its state."""
        self._policy = policy
        for breaker in self._breakers.values():
            breaker.update(policy)

    def of(self, endpoint: HasInstance) -> Breaker:
        """The endpoint's breaker; made when it is asked for the first time."""
        instance = endpoint.instance
        breaker = self._breakers.get(instance)
        if breaker is None:
            breaker = Breaker(self._policy, self._random, partial(self._changed, instance))
            self._breakers[instance] = breaker
        return breaker

    def forget(self, instance: str) -> None:
        """The endpoint is gone. Its permits may still be settled, to no effect."""
        breaker = self._breakers.pop(instance, None)
        if breaker is not None:
            breaker.detach()
            if breaker.state is not State.CLOSED:
                self._not_closed -= 1

    def admitted(self, endpoints: Sequence[E], now: float) -> Sequence[E]:
        """Those that may be given a request: `endpoints` itself when it is all of them, empty when none.

        One whose `permit` gives None right after this is there by the panic rule: use `forced`.
        """
        if self._not_closed == 0:
            return endpoints
        breakers = self._breakers
        admitted = [
            endpoint
            for endpoint in endpoints
            if (breaker := breakers.get(endpoint.instance)) is None or breaker.admits(now)
        ]
        ejected = len(endpoints) - len(admitted)
        if ejected == 0:
            return endpoints
        if not admitted or ejected <= self._policy.panic * len(endpoints):
            return admitted
        kept = {endpoint.instance for endpoint in admitted}
        return [e for e in endpoints if e.instance in kept or self._reaches(e.instance)]

    def retry_after(self, endpoints: Sequence[HasInstance], now: float) -> float:
        """Seconds until the first of them (at least one) may be asked again; 0: now."""
        return min(self.of(endpoint).retry_after(now) for endpoint in endpoints)

    def states(self, now: float) -> dict[str, State]:
        """By instance, for metrics and operators. One not in it was never asked, hence is closed."""
        return {instance: breaker.state_at(now) for instance, breaker in self._breakers.items()}

    def _reaches(self, instance: str) -> bool:
        """Whether an endpoint that is not admitted could do its share in a panic."""
        breaker = self._breakers[instance]
        return breaker.state is State.OPEN and breaker.cause is not Verdict.CONNECT

    def _changed(self, instance: str, old: State, new: State) -> None:
        if old is State.CLOSED:
            self._not_closed += 1
        elif new is State.CLOSED:
            self._not_closed -= 1
        if self._on_change is not None:
            self._on_change(instance, old, new)
