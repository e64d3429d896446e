import asyncio

import pytest

from moonpool.asgi import health as module
from moonpool.asgi.health import Health
from moonpool.asgi.shutdown import Shutdown
from moonpool.core.errors import Unavailable


async def well() -> None: ...


async def away() -> None:
    raise Unavailable("it is away")


async def broken() -> None:
    raise ZeroDivisionError("a bug")


async def hanging() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("required", "optional", "status"),
    [
        ({}, {}, "ready"),
        ({"a": well}, {"b": well}, "ready"),
        ({"a": well}, {"b": away}, "degraded"),
        ({"a": away}, {"b": well}, "unready"),
        ({"a": away}, {"b": away}, "unready"),
        ({"a": broken}, {}, "unready"),
        ({"a": well}, {"b": broken}, "degraded"),
    ],
)
async def test_states(required, optional, status: str) -> None:
    assert (await Health(required, optional, Shutdown()).readiness()).status == status


async def test_every_dependency_says_why() -> None:
    checks = (await Health({"a": well, "b": away}, {"c": broken}, Shutdown()).readiness()).checks
    assert checks == {"a": "ok", "b": "it is away", "c": "ZeroDivisionError: a bug"}


async def test_a_check_that_hangs_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK_TIMEOUT", 0.01)
    readiness = await Health({"a": hanging, "b": hanging}, {}, Shutdown()).readiness()
    assert readiness.status == "unready"
    assert readiness.checks["a"].startswith("no answer within")


async def test_draining_wins() -> None:
    shutdown = Shutdown()
    health = Health({"a": away}, {}, shutdown)
    assert (await health.readiness()).status == "unready"
    shutdown.begin(30.0)
    assert (await health.readiness()).status == "draining"
