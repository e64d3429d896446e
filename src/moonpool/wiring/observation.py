"""What the gateway tells Prometheus beside its requests: each part is shown where its numbers are."""

from collections.abc import Iterable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry

from moonpool.adapters.cache.memory import MemoryCache
from moonpool.adapters.journal.local import LocalJournal
from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.models import INFERENCE
from moonpool.balancing.pools import Pools
from moonpool.contracts.config import SERVICES
from moonpool.core.clock import Clock
from moonpool.core.component import Component
from moonpool.middleware import watching
from moonpool.middleware.causes import Causes
from moonpool.middleware.gauges import Gauges
from moonpool.middleware.loop_lag import LoopLag
from moonpool.middleware.sampled import Sampled
from moonpool.middleware.verdicts import Verdicts
from moonpool.ports.cache import Cache
from moonpool.ports.dead_letters import DeadLetters
from moonpool.ports.limits import Limits
from moonpool.ports.telemetry import SpanExporter
from moonpool.wiring.resilience import Resilience


def observe(
    registry: CollectorRegistry,
    *,
    clock: Clock,
    pools: Pools,
    resilience: Resilience,
    causes: Causes,
    verdicts: Verdicts,
    journal: LocalJournal,
    letters: DeadLetters,
    cache: Cache,
    limits: Limits,
    spans: SpanExporter | None,
) -> list[Component]:
    """Registers everything; what is returned has to run for it."""
    gauges, lag = Gauges(), LoopLag()

    def endpoints() -> Mapping[str, Iterable[Endpoint]]:
        found: dict[str, list[Endpoint]] = {name: list(pools.endpoints(name)) for name in SERVICES}
        found[INFERENCE].extend(resilience.models.externals())
        return found

    watching.watch_endpoints(gauges, endpoints, clock)
    watching.watch_breakers(gauges, resilience.breakers, clock)
    watching.watch_budget(gauges, resilience.budget, clock)
    watching.watch_causes(gauges, causes)
    watching.watch_verdicts(gauges, verdicts)
    watching.watch_journal(gauges, lambda: journal.healthy, lambda: journal.waiting_bytes)
    counted = Sampled[dict[str, float]](partial(watching.count_letters, letters), {})
    watching.watch_letters(gauges, counted)
    if isinstance(cache, MemoryCache):  # one that is shared has metrics of its own
        watching.watch_cache(gauges, lambda: cache.entry_count, lambda: cache.byte_count)
    watching.watch_limits(gauges, lambda: limits.shared)
    if spans is not None:
        watching.watch_spans(gauges, spans)
    registry.register(gauges)
    registry.register(lag)
    return [lag, counted]
