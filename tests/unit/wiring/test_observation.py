"""Everything that the gateway has is told."""

import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
from prometheus_client import CollectorRegistry

from moonpool.adapters.cache.memory import MemoryCache
from moonpool.adapters.limits.memory import MemoryLimits
from moonpool.balancing.pools import Pools
from moonpool.contracts.catalogue import Catalogue, Model, Target
from moonpool.contracts.config import PlatformConfig
from moonpool.core.clock import ManualClock
from moonpool.http.client import Client
from moonpool.middleware.causes import Causes
from moonpool.middleware.verdicts import Verdicts
from moonpool.ports.discovery import Instance, Topology
from moonpool.wiring.observation import observe
from moonpool.wiring.resilience import Resilience


async def test_every_part_is_told_and_none_fails(tmp_path: Path) -> None:
    clock, pools, registry = ManualClock(), Pools(), CollectorRegistry()
    resilience = Resilience(
        PlatformConfig().resilience,
        pools=pools,
        client=Client(clock=clock),
        clock=clock,
        chance=random.Random(1),
        log=structlog.get_logger(),
    )
    pools.update(
        Topology(
            modules=(
                Instance(
                    name="chat", release="v1", instance="chat-0", pid=1, state="ready", endpoint="unix:/x"
                ),
            )
        )
    )
    target = Target(id="far", url="http://127.0.0.1:9/v1")
    resilience.models.update(Catalogue(version=1, models=(Model(id="m", targets=(target,)),)))

    async def count(which) -> int:
        return 2

    _, letters = observe(
        registry,
        clock=clock,
        pools=pools,
        resilience=resilience,
        causes=Causes(clock),
        verdicts=Verdicts(),
        journal=SimpleNamespace(healthy=True, waiting_bytes=5),  # type: ignore[arg-type]
        letters=SimpleNamespace(count=count),  # type: ignore[arg-type]
        cache=MemoryCache(clock=clock),
        limits=MemoryLimits(clock),
        spans=SimpleNamespace(exported=1, dropped=0),  # type: ignore[arg-type]
    )
    await letters.refresh()  # type: ignore[attr-defined]

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("moonpool_endpoint_ready", service="chat", release="v1", endpoint="chat-0") == 1
    assert value("moonpool_endpoint_ready", service="inference", release="external", endpoint="far") == 1
    assert value("moonpool_dead_letters", state="dead") == 2
    assert value("moonpool_journal_waiting_bytes") == 5
    assert value("moonpool_retry_budget") == pytest.approx(100)
    assert value("moonpool_breakers", state="open") == 0
    assert value("moonpool_cache_entries") == 0
    assert value("moonpool_limits_shared") == 1
    assert value("moonpool_event_loop_lag_seconds_count") == 0
    assert value("moonpool_spans_exported_total") == 1
    failures = [family for family in registry.collect() if family.name == "moonpool_metric_failures"]
    assert failures[0].samples == []
