"""Which numbers are told, and where they come from."""

from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.lease import Lease
from moonpool.http.address import Address
from moonpool.middleware import watching
from moonpool.middleware.causes import Cause, Causes
from moonpool.middleware.gauges import Gauges
from moonpool.middleware.verdicts import Verdicts
from moonpool.ports.dead_letters import State


@pytest.fixture
def gauges() -> Gauges:
    return Gauges()


@pytest.fixture
def value(gauges):
    registry = CollectorRegistry()
    registry.register(gauges)

    def read(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    return read


def test_endpoints(gauges, value, clock) -> None:
    endpoint = Endpoint(Address.parse("unix:/x"), instance="chat-0", release="v2")
    pool = [endpoint]
    watching.watch_endpoints(gauges, lambda: {"chat": pool}, clock)
    labels = {"service": "chat", "release": "v2", "endpoint": "chat-0"}
    leases = [Lease(endpoint, clock, prompt=10, tokens=5) for _ in range(3)]
    clock.advance(0.5)
    leases[0].release()
    leases[1].release(failed=True)
    assert value("moonpool_endpoint_ready", **labels) == 1
    assert value("moonpool_endpoint_requests_active", **labels) == 1
    assert value("moonpool_endpoint_requests_total", **labels) == 2
    assert value("moonpool_endpoint_failures_total", **labels) == 1
    assert value("moonpool_endpoint_busy_seconds_total", **labels) == pytest.approx(1.0)
    assert value("moonpool_endpoint_latency_seconds", **labels) == pytest.approx(0.5)
    assert value("moonpool_endpoint_queued_tokens", **labels) == 10
    assert value("moonpool_endpoint_owed_tokens", **labels) == 5
    pool.clear()  # what is gone is told no more
    assert value("moonpool_endpoint_ready", **labels) is None


def test_breakers_and_budget(gauges, value, clock) -> None:
    breakers = SimpleNamespace(states=lambda now: {"a": "closed", "b": "open", "c": "half_open", "d": "open"})
    watching.watch_breakers(gauges, breakers, clock)
    watching.watch_budget(gauges, SimpleNamespace(denied=4, available=lambda now: 12.5), clock)
    assert [value("moonpool_breaker_state", endpoint=name) for name in "abcd"] == [0, 2, 1, 2]
    assert [value("moonpool_breakers", state=state) for state in watching.STATES] == [1, 1, 2]
    assert value("moonpool_retry_budget") == 12.5
    assert value("moonpool_retry_budget_denied_total") == 4


def test_causes_and_verdicts(gauges, value, clock, make_ctx) -> None:
    causes, verdicts = Causes(clock), Verdicts()
    watching.watch_causes(gauges, causes)
    watching.watch_verdicts(gauges, verdicts)
    for route in ("POST /a", "POST /b"):
        causes.note(Cause("stale", "chat", route, "connect_failed"))
    ctx = make_ctx()
    ctx.decide("cache", "hit")
    verdicts.count(ctx)
    assert value("moonpool_fallbacks_total", kind="stale", service="chat", cause="connect_failed") == 2
    assert value("moonpool_decisions_total", filter="cache", verdict="hit") == 1


async def test_letters_are_counted_by_state() -> None:
    async def count(which) -> int:
        return {State.DEAD: 3, State.WAITING: 2}.get(which.states[0], 0)

    assert await watching.count_letters(SimpleNamespace(count=count)) == {  # type: ignore[arg-type]
        "waiting": 2.0,
        "dead": 3.0,
        "answered": 0.0,
    }


def test_queues_and_stores(gauges, value) -> None:
    watching.watch_journal(gauges, lambda: False, lambda: 12)
    watching.watch_letters(gauges, lambda: {"dead": 3.0})
    watching.watch_cache(gauges, lambda: 5, lambda: 999)
    watching.watch_spans(gauges, SimpleNamespace(exported=7, dropped=1))  # type: ignore[arg-type]
    assert value("moonpool_journal_healthy") == 0
    assert value("moonpool_journal_waiting_bytes") == 12
    assert value("moonpool_dead_letters", state="dead") == 3
    assert (value("moonpool_cache_entries"), value("moonpool_cache_bytes")) == (5, 999)
    assert (value("moonpool_spans_exported_total"), value("moonpool_spans_dropped_total")) == (7, 1)
