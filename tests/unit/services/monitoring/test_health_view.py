"""The platform's health, fresh and stale."""

from typing import Any

import pytest

from moonpool.core.principal import Principal
from moonpool.services.monitoring.health import FRESH, overall

PATH = "/api/monitoring/health"


@pytest.mark.parametrize(
    ("modules", "status"),
    [
        ([("a", "ready", 0), ("b", "ready", 0)], "ready"),
        ([("a", "ready", 0), ("b", "degraded", 0)], "degraded"),
        ([("a", "ready", 0), ("a", "unreachable", 1)], "degraded"),
        ([("a", "ready", 0), ("a", "draining", 1)], "ready"),
        ([("a", "degraded", 0), ("a", "draining", 1)], "degraded"),
        ([("a", "ready", 0), ("a", "crashed", 1)], "degraded"),
        ([("a", "ready", 0), ("b", "draining", 0)], "down"),
        ([("a", "ready", 0), ("b", "unreachable", 0)], "down"),
        ([], "down"),
    ],
)
def test_the_whole_follows_from_the_parts(kit: Any, modules: list[Any], status: str) -> None:
    assert overall([kit.module(*module) for module in modules]) == status


async def test_health_is_asked_and_the_last_look_kept(
    monitoring: Any, probe: Any, kit: Any, admin: Principal
) -> None:
    probe.modules = [kit.module("chat"), kit.module("auth", "unreachable")]
    body = (await monitoring.call("GET", PATH, caller=admin)).json()
    assert (body["status"], body["stale"]) == ("down", False)
    assert [module["instance"] for module in body["modules"]] == ["chat-0", "auth-0"]
    monitoring.parts.clock.advance(FRESH + 0.1)
    probe.away = True
    kept = (await monitoring.call("GET", PATH, caller=admin)).json()
    assert kept == {**body, "stale": True}


async def test_one_look_serves_many(monitoring: Any, probe: Any, kit: Any, admin: Principal) -> None:
    probe.modules = [kit.module("chat")]
    for _ in range(3):
        await monitoring.call("GET", PATH, caller=admin)
    assert probe.looks == 1
    monitoring.parts.clock.advance(FRESH + 0.1)
    await monitoring.call("GET", PATH, caller=admin)
    assert probe.looks == 2


async def test_without_any_look_it_is_unavailable(monitoring: Any, probe: Any, admin: Principal) -> None:
    probe.away = True
    assert (await monitoring.call("GET", PATH, caller=admin)).status_code == 503
