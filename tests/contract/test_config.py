"""What every source of configuration promises (ports/config.py). A new adapter adds a parameter below."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from moonpool.adapters.config.file import FileConfig
from moonpool.contracts.config import GatewayConfig, PlatformConfig
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.core.errors import StartupError
from moonpool.ports.config import ConfigSource

PATIENCE = 0.3
"""Seconds in which a change has certainly been looked at."""


class Place:
    """Where one document lives; `write` is what an operator does to it."""

    def __init__(self, folder: Path, kind: str) -> None:
        assert kind == "file"
        self._file = folder / "moonpool.yaml"

    def write(self, text: str) -> None:
        self._file.write_text(text)

    def open(self) -> ConfigSource[PlatformConfig]:
        return FileConfig(self._file, {}, interval=0.02)


@pytest.fixture(params=["file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    place = Place(tmp_path, request.param)
    place.write("gateway: {port: 1111}\n")
    return place


@pytest.fixture
async def source(place: Place) -> AsyncIterator[ConfigSource[PlatformConfig]]:
    source = place.open()
    await source.start()
    yield source
    await source.stop()


def follow(source: ConfigSource[PlatformConfig]) -> "asyncio.Queue[PlatformConfig]":
    queue: asyncio.Queue[PlatformConfig] = asyncio.Queue()
    source.subscribe(PLATFORM, lambda _name, _old, new: queue.put_nowait(new))
    return queue


async def test_current_is_the_document(source: ConfigSource[PlatformConfig]) -> None:
    assert source.current == PlatformConfig(gateway=GatewayConfig(port=1111))


async def test_a_broken_first_document_is_a_startup_error(place: Place) -> None:
    place.write("gateway:\n  port: many\n")
    source = place.open()
    with pytest.raises(StartupError) as caught:
        await source.start()
    assert caught.value.where is not None
    assert caught.value.where.endswith(":2")
    await source.stop()


async def test_a_new_document_is_published(source: ConfigSource[PlatformConfig], place: Place) -> None:
    queue, second = follow(source), follow(source)
    place.write("gateway: {port: 2222}\n")
    async with asyncio.timeout(5):
        assert (await queue.get()).gateway.port == 2222
        assert (await second.get()).gateway.port == 2222
    assert source.current.gateway.port == 2222


@pytest.mark.parametrize("broken", ["gateway: {port: 99999}\n", "gateway: [\n", "gatway: {}\n", "\x00"])
async def test_a_refused_document_changes_nothing(
    source: ConfigSource[PlatformConfig], place: Place, broken: str
) -> None:
    queue = follow(source)
    place.write(broken)
    await asyncio.sleep(PATIENCE)
    assert source.current.gateway.port == 1111
    assert queue.empty()
    place.write("gateway: {port: 3333}\n")
    async with asyncio.timeout(5):
        assert (await queue.get()).gateway.port == 3333


async def test_a_subscriber_that_fails_keeps_nothing_from_the_others(
    source: ConfigSource[PlatformConfig], place: Place
) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))

    def fail(_name: str, _old: PlatformConfig | None, _new: PlatformConfig) -> None:
        raise ZeroDivisionError

    source.subscribe(PLATFORM, fail)
    queue = follow(source)
    for port in (4444, 5555):
        place.write(f"gateway: {{port: {port}}}\n")
        async with asyncio.timeout(5):
            assert (await queue.get()).gateway.port == port
    assert len(told) == 2


async def test_after_stop_nothing_is_published(source: ConfigSource[PlatformConfig], place: Place) -> None:
    queue = follow(source)
    await source.stop()
    place.write("gateway: {port: 2222}\n")
    await asyncio.sleep(PATIENCE)
    assert queue.empty()
    assert source.current.gateway.port == 1111


def test_documents_are_plain_data() -> None:
    assert msgspec.json.decode(msgspec.json.encode(PlatformConfig()), type=PlatformConfig) == PlatformConfig()
