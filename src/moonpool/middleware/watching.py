"""Which numbers of the layer are told to Prometheus, and under which names: one function for each part.

Called once, where the parts are put together. Labels are bounded: routes, services, releases, states, kinds
and the endpoints there are at the moment; never users, keys or request ids.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from moonpool.balancing.endpoint import Endpoint
from moonpool.core.clock import Clock
from moonpool.middleware.causes import Causes
from moonpool.middleware.gauges import Gauges
from moonpool.middleware.verdicts import Verdicts
from moonpool.ports.dead_letters import DeadLetters, State, Which
from moonpool.ports.telemetry import SpanExporter

STATES = ("closed", "half_open", "open")
"""Of a circuit breaker; the value of its state's metric is the place in here."""
_ENDPOINT = ("service", "release", "endpoint")


class HasStates(Protocol):
    """middleware.breakers.Breakers."""

    def states(self, now: float) -> Mapping[str, str]: ...


class Budget(Protocol):
    """middleware.retry_budget.RetryBudget."""

    @property
    def denied(self) -> int: ...

    def available(self, now: float) -> float: ...


Endpoints = Callable[[], Mapping[str, Iterable[Endpoint]]]
"""The endpoints there are, by service."""


def watch_endpoints(gauges: Gauges, endpoints: Endpoints, clock: Clock) -> None:
    """Rate, errors, duration and balance of each endpoint, from what its balancer keeps anyhow."""

    def each(read: Callable[[Endpoint], float]) -> Callable[[], dict[tuple[str, ...], float]]:
        def rows() -> dict[tuple[str, ...], float]:
            return {
                (service, endpoint.release, endpoint.instance): read(endpoint)
                for service, pool in endpoints().items()
                for endpoint in pool
            }

        return rows

    def gauge(name: str, help: str, read: Callable[[Endpoint], float]) -> None:
        gauges.add(f"moonpool_endpoint_{name}", help, each(read), _ENDPOINT)

    def counter(name: str, help: str, read: Callable[[Endpoint], float]) -> None:
        gauges.add(f"moonpool_endpoint_{name}", help, each(read), _ENDPOINT, kind="counter")

    gauge("ready", "1 when it takes requests.", lambda e: float(e.ready))
    gauge("requests_active", "Requests from dispatch to the end of the body.", lambda e: e.active)
    counter("requests", "Requests that are over.", lambda e: e.served)
    counter("failures", "Those of them that failed for the endpoint's own reasons.", lambda e: e.failed)
    counter("busy_seconds", "The time they took, in sum.", lambda e: e.seconds)
    gauge(
        "latency_seconds",
        "What the balancer takes a call to last (decayed peak).",
        lambda e: e.latency(clock.monotonic()),
    )
    gauge("queued_tokens", "Prompt tokens whose first answer token has not come.", lambda e: e.queued_tokens)
    gauge("owed_tokens", "Answer tokens still to come.", lambda e: e.tokens)
    gauge("prefill_rate", "Measured prompt tokens a second; 0: not measured.", lambda e: e.prefill_rate)


def watch_breakers(gauges: Gauges, breakers: HasStates, clock: Clock) -> None:
    def states() -> dict[str, float]:
        now = clock.monotonic()
        return {endpoint: float(STATES.index(state)) for endpoint, state in breakers.states(now).items()}

    def counts() -> dict[str, float]:
        found = dict.fromkeys(STATES, 0.0)
        for state in breakers.states(clock.monotonic()).values():
            found[str(state)] += 1.0
        return found

    gauges.add("moonpool_breaker_state", "0 closed, 1 half open, 2 open.", states, ("endpoint",))
    gauges.add("moonpool_breakers", "Circuit breakers by state.", counts, ("state",))


def watch_budget(gauges: Gauges, budget: Budget, clock: Clock) -> None:
    gauges.add(
        "moonpool_retry_budget",
        "Attempts beyond the first that would be granted now; below 1 it is spent.",
        lambda: budget.available(clock.monotonic()),
    )
    gauges.add(
        "moonpool_retry_budget_denied",
        "Attempts beyond the first that were refused.",
        lambda: budget.denied,
        kind="counter",
    )


def watch_causes(gauges: Gauges, causes: Causes) -> None:
    """Fallbacks, failovers and dead letters, by what was given instead and why."""
    gauges.add(
        "moonpool_fallbacks",
        "What was given in the place of the real answer, by kind and cause.",
        causes.totals,
        ("kind", "service", "cause"),
        kind="counter",
    )


def watch_journal(gauges: Gauges, healthy: Callable[[], bool], waiting_bytes: Callable[[], float]) -> None:
    gauges.add("moonpool_journal_healthy", "1 when usage can be written.", lambda: float(healthy()))
    gauges.add("moonpool_journal_waiting_bytes", "Usage that is not in the event log yet.", waiting_bytes)


def watch_letters(gauges: Gauges, letters: Callable[[], Mapping[str, float]]) -> None:
    """`letters` tells how many there are by state: a store is asked behind the scrape (sampled.py)."""
    gauges.add(
        "moonpool_dead_letters",
        "Letters by state; waiting are those that are tried again by themselves.",
        letters,
        ("state",),
    )


async def count_letters(letters: DeadLetters) -> dict[str, float]:
    """What `watch_letters` tells."""
    return {state.value: float(await letters.count(Which(states=(state,)))) for state in State}


def watch_verdicts(gauges: Gauges, verdicts: Verdicts) -> None:
    """Cache ratios, limiter denials, retries, refusals: what the filters decided."""
    gauges.add(
        "moonpool_decisions",
        "Decisions by filter and verdict.",
        verdicts.totals,
        ("filter", "verdict"),
        kind="counter",
    )


def watch_cache(gauges: Gauges, entries: Callable[[], float], size: Callable[[], float]) -> None:
    gauges.add("moonpool_cache_entries", "Answers in the cache of this process.", entries)
    gauges.add("moonpool_cache_bytes", "Memory they take.", size)


def watch_limits(gauges: Gauges, shared: Callable[[], float]) -> None:
    gauges.add(
        "moonpool_limits_shared",
        "1: counted with all gateways; 0: by a local share, the store is away.",
        shared,
    )


def watch_spans(gauges: Gauges, spans: SpanExporter) -> None:
    gauges.add(
        "moonpool_spans_exported", "Spans that the collector took.", lambda: spans.exported, kind="counter"
    )
    gauges.add(
        "moonpool_spans_dropped",
        "Spans, or requests whose spans were not made, that it will not get.",
        lambda: spans.dropped,
        kind="counter",
    )
