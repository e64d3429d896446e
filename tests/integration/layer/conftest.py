"""Houses of the layer, on the event loop that gateways run on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from harness.layer import Endpoint, Gate, House


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def gate() -> Gate:
    return Gate()


@pytest.fixture
async def running(gate: Gate) -> AsyncIterator[Any]:
    """`await running("a", "b", reserves=1)`."""
    houses: list[House] = []

    async def start(*names: str, reserves: int = 0) -> House:
        endpoints = [Endpoint(name, gate) for name in names]
        for endpoint in endpoints:
            await endpoint.start()
        houses.append(House(endpoints, reserves))
        await houses[-1].start()
        return houses[-1]

    yield start
    for house in houses:
        await house.stop()
        for endpoint in house.endpoints:
            await endpoint.stop()
