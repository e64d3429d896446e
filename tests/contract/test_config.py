"""What every source of configuration promises (ports/config.py). A new adapter adds a parameter below."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import structlog

from moonpool.adapters.config.beginning import begin
from moonpool.adapters.config.file import FileConfig
from moonpool.adapters.config.kept import KeptFile
from moonpool.adapters.config.server import ServerConfig
from moonpool.adapters.config.yaml_file import parse_yaml
from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.configserver.faults import Author
from moonpool.configserver.hub import Hub
from moonpool.configserver.judging import Judge
from moonpool.configserver.service import ConfigService, Expected
from moonpool.configserver.takeover import GivenFile
from moonpool.contracts.config import GatewayConfig, PlatformConfig
from moonpool.contracts.documents.kinds import Kinds
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.documents.validation import DocumentFault
from moonpool.core.clock import ManualClock
from moonpool.core.errors import StartupError
from moonpool.ports.config import ConfigSource
from moonpool.wiring.adapters import CONFIG_MIGRATIONS

PATIENCE = 0.3
"""Seconds in which a change has certainly been looked at."""


class FilePlace:
    """The document is a file, edited in place."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "moonpool.yaml"

    async def write(self, text: str) -> None:
        self._file.write_text(text)

    async def open(self) -> ConfigSource[PlatformConfig]:
        return FileConfig(self._file, {}, interval=0.02)

    async def close(self) -> None: ...


class ServerPlace:
    """The document is a config server's, changed by its administrators. Its first one is a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "moonpool.yaml"
        self._hub = Hub()
        self._service: ConfigService | None = None

    async def write(self, text: str) -> None:
        if self._service is None:
            self._file.write_text(text)
            return
        try:
            content = parse_yaml(text, "a test").data
            assert isinstance(content, dict)
            await self._service.put("platform", content, Expected(), Author("ann"), "")
        except (StartupError, DocumentFault):
            return

    async def open(self) -> ConfigSource[PlatformConfig]:
        kept = KeptFile(self._folder, "test")
        source = ServerConfig(
            instance="test-0-1",
            kinds=KINDS,
            beginning=begin(self._file, {}, []),
            connect=self._hub.watch,
            keep=kept.write,
            environ={},
            log=structlog.get_logger(),
        )
        content = parse_yaml(self._file.read_text(), "a test").data
        assert isinstance(content, dict)
        self._service = ConfigService(
            database=SqliteDatabase(self._folder / "config.db", CONFIG_MIGRATIONS),
            judge=Judge(KINDS, {}),
            hub=self._hub,
            clock=ManualClock(),
            log=structlog.get_logger(),
            given=GivenFile(path=str(self._file), digest="1", content=content),
        )
        await self._service.start()
        return source

    async def close(self) -> None:
        if self._service is not None:
            await self._service.stop()


KINDS = Kinds([PLATFORM])
Place = FilePlace | ServerPlace


@pytest.fixture(params=[FilePlace, ServerPlace])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    place: Place = request.param(tmp_path)
    await place.write("gateway: {port: 1111}\n")
    yield place
    await place.close()


@pytest.fixture
async def source(place: Place) -> AsyncIterator[ConfigSource[PlatformConfig]]:
    source = await place.open()
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
    await place.write("gateway:\n  port: many\n")
    with pytest.raises(StartupError) as caught:
        await (await place.open()).start()
    assert caught.value.where is not None
    assert caught.value.where.endswith(":2")


async def test_a_new_document_is_published(source: ConfigSource[PlatformConfig], place: Place) -> None:
    queue, second = follow(source), follow(source)
    await place.write("gateway: {port: 2222}\n")
    async with asyncio.timeout(5):
        assert (await queue.get()).gateway.port == 2222
        assert (await second.get()).gateway.port == 2222
    assert source.current.gateway.port == 2222


@pytest.mark.parametrize("broken", ["gateway: {port: 99999}\n", "gateway: [\n", "gatway: {}\n", "\x00"])
async def test_a_refused_document_changes_nothing(
    source: ConfigSource[PlatformConfig], place: Place, broken: str
) -> None:
    queue = follow(source)
    await place.write(broken)
    await asyncio.sleep(PATIENCE)
    assert source.current.gateway.port == 1111
    assert queue.empty()
    await place.write("gateway: {port: 3333}\n")
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
        await place.write(f"gateway: {{port: {port}}}\n")
        async with asyncio.timeout(5):
            assert (await queue.get()).gateway.port == port
    assert len(told) == 2


async def test_after_stop_nothing_is_published(source: ConfigSource[PlatformConfig], place: Place) -> None:
    queue = follow(source)
    await source.stop()
    await place.write("gateway: {port: 2222}\n")
    await asyncio.sleep(PATIENCE)
    assert queue.empty()
    assert source.current.gateway.port == 1111


def test_documents_are_plain_data() -> None:
    assert msgspec.json.decode(msgspec.json.encode(PlatformConfig()), type=PlatformConfig) == PlatformConfig()
