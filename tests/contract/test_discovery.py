"""What every discovery promises (ports/discovery.py). A new adapter adds a parameter below."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from moonpool.adapters.discovery.file import FileDiscovery, write_topology
from moonpool.ports.discovery import Discovery, Instance, Topology


def topology(version: int) -> Topology:
    instance = Instance(
        name="chat",
        release="v1",
        instance=f"chat-0-{version}",
        pid=version,
        state="ready",
        endpoint="unix:/x",
    )
    return Topology(version, (instance,))


class Place:
    """Where the instances are told; `tell` is what the supervisor or the orchestrator does."""

    def __init__(self, folder: Path, kind: str) -> None:
        assert kind == "file"
        self._file = folder / "topology.json"

    def tell(self, topology: Topology) -> None:
        write_topology(self._file, topology)

    def take_away(self) -> None:
        self._file.unlink()

    def open(self) -> Discovery:
        return FileDiscovery(self._file, interval=0.01)


@pytest.fixture(params=["file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    place = Place(tmp_path, request.param)
    place.tell(topology(1))
    return place


@pytest.fixture
async def discovery(place: Place) -> AsyncIterator[Discovery]:
    discovery = place.open()
    await discovery.start()
    yield discovery
    await discovery.stop()


def follow(discovery: Discovery) -> "asyncio.Queue[Topology]":
    queue: asyncio.Queue[Topology] = asyncio.Queue()
    discovery.subscribe(queue.put_nowait)
    return queue


async def test_current_is_known_after_the_start(discovery: Discovery) -> None:
    assert discovery.current == topology(1)


async def test_a_new_topology_is_told_to_all(discovery: Discovery, place: Place) -> None:
    queues = [follow(discovery), follow(discovery)]
    for version in (2, 3):
        place.tell(topology(version))
        async with asyncio.timeout(5):
            assert [await queue.get() for queue in queues] == [topology(version)] * 2
        assert discovery.current == topology(version)


async def test_the_last_known_topology_is_kept_when_the_source_is_away(
    discovery: Discovery, place: Place
) -> None:
    queue = follow(discovery)
    place.take_away()
    await asyncio.sleep(0.1)
    assert discovery.current == topology(1)
    assert queue.empty()
    place.tell(topology(2))
    async with asyncio.timeout(5):
        assert await queue.get() == topology(2)


async def test_without_a_source_no_instance_is_known(place: Place) -> None:
    place.take_away()
    discovery = place.open()
    await discovery.start()
    queue = follow(discovery)
    assert discovery.current == Topology()
    place.tell(topology(1))
    async with asyncio.timeout(5):
        assert await queue.get() == topology(1)
    await discovery.stop()


async def test_after_stop_nothing_is_told(discovery: Discovery, place: Place) -> None:
    queue = follow(discovery)
    await discovery.stop()
    place.tell(topology(2))
    await asyncio.sleep(0.1)
    assert queue.empty()
