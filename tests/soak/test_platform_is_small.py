"""The whole platform without a model takes at most 450 MB: after a first start, a second, and some use.

Proportional set sizes of the supervisor, the fork server and the twelve modules. What takes them, and why
a child copies what it only looks at: docs/performance.md.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.injector import Injector, injecting
from harness.platform import Platform, running
from moonpool.wiring.layout import Layout
from moonpool.wiring.lock import holder

pytestmark = pytest.mark.slow

MOST = 450.0
"""MB (10⁶ bytes)."""
REST = 5.0
"""Seconds after the last module is ready until nobody is still busy with its start."""
ROUNDS = 15
PATHS = (
    "/",
    "/admin/config/documents",
    "/admin/releases",
    "/admin/upgrades",
    "/api/auth/keys",
    "/api/billing/entries",
    "/api/billing/usage",
    "/api/conversations",
    "/api/monitoring/health",
    "/api/monitoring/requests",
    "/api/monitoring/summary",
    "/api/users",
    "/api/users/me",
    "/metrics",
    "/openapi.json",
    "/user/balance",
    "/v1/files",
    "/v1/fine_tuning/jobs",
    "/v1/models",
)
"""Of every service, and of those routes the ones that load most."""


def sizes(platform: Platform) -> dict[str, float]:
    """Of every process, in MB."""
    supervisor = psutil.Process(holder(Layout(platform.data)))
    family = [supervisor, *supervisor.children(recursive=True)]
    return {f"{one.name()} {one.pid}": one.memory_full_info().pss / 1e6 for one in family}


def whole(platform: Platform, when: str) -> float:
    found = sizes(platform)
    print(f"\n{when}: {sum(found.values()):.1f} MB")
    print(", ".join(f"{name} {size:.1f}" for name, size in sorted(found.items())))
    return sum(found.values())


@pytest.fixture
def injector() -> Iterator[Injector]:
    with injecting() as injector:
        yield injector


@pytest.mark.timeout(300)
def test_the_whole_platform(tmp_path: Path, injector: Injector) -> None:
    config = {"models": {"plain": {"targets": [{"url": injector.url}]}}}
    with running(tmp_path / "data", config) as platform:
        time.sleep(REST)
        assert whole(platform, "after a first start") <= MOST
        for number in range(ROUNDS):
            for path in PATHS:
                assert platform.request("GET", path).status == 200
            assert platform.chat(f"Number {number}?", model="plain").status == 200
        time.sleep(REST)
        assert whole(platform, f"after {ROUNDS * (len(PATHS) + 1)} requests") <= MOST
    with running(tmp_path / "data", config) as platform:
        time.sleep(REST)
        assert whole(platform, "after a second start") <= MOST
