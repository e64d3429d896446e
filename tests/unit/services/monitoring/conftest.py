"""A probe that a test plays itself, records, and the monitoring service."""

from typing import Any

import msgspec
import pytest

from moonpool.contracts.clients import Clients
from moonpool.contracts.monitoring import ModuleHealth
from moonpool.contracts.requests import TOPIC, AttemptRecord, DecisionRecord, RequestRecord
from moonpool.core.errors import Unavailable
from moonpool.ports.events import Event

START = 1_700_000_000.0


class Probe:
    def __init__(self) -> None:
        self.modules: list[ModuleHealth] = []
        self.expositions: dict[str, bytes] = {}
        self.away = False
        self.looks = 0

    async def probe(self) -> list[ModuleHealth]:
        self.looks += 1
        if self.away:
            raise Unavailable("nobody knows where they are")
        return self.modules

    async def metrics(self) -> dict[str, bytes]:
        return self.expositions


def module(name: str, status: str = "ready", number: int = 0) -> ModuleHealth:
    return ModuleHealth(
        name=name,
        instance=f"{name}-{number}",
        release="v1",
        endpoint="unix:/x",
        pid=1,
        state=status,
        status=status,
    )


def record(id: str, **fields: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "id": id,
        "trace_id": "t" * 32,
        "at": START,
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "service": "inference",
        "release": "v1",
        "user": "user_member",
        "tenant": "org_test",
        "key": "key_1",
        "peer": "127.0.0.1",
        "duration_ms": 10.0,
        "first_byte_ms": 5.0,
        "bytes_out": 100,
        "outcome": "completed",
        "flags": (),
        "attempts": (
            AttemptRecord(
                endpoint="unix:/x", release="v1", started_ms=1.0, ended_ms=9.0, status=200, error=None
            ),
        ),
        "decisions": (DecisionRecord("retry", "attempt", "first", 1.0),),
    }
    return RequestRecord(**{**values, **fields})


async def publish(parts: Any, *records: RequestRecord) -> None:
    events = [Event(record.id, record.id, msgspec.json.encode(record)) for record in records]
    await parts.events.append(TOPIC, events)


class Kit:
    """The names above, for tests (test modules cannot import each other)."""

    START = START
    module = staticmethod(module)
    record = staticmethod(record)
    publish = staticmethod(publish)


@pytest.fixture
def kit() -> type[Kit]:
    return Kit


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
async def monitoring(make_parts: Any, run_service: Any, probe: Probe) -> Any:
    return await run_service(await make_parts("monitoring", clients=Clients(probe=probe)))
