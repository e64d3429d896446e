"""Following the config server: nothing is lost, nothing bad is taken, and its absence stops nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import structlog

from moonpool.adapters.config import server as following
from moonpool.adapters.config.beginning import Beginning
from moonpool.adapters.config.server import ServerConfig
from moonpool.contracts.config import GatewayConfig, PlatformConfig
from moonpool.contracts.documents.kinds import Kinds
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.documents.wire import Beat, Changed, Event, Kept, Snapshot, Stored
from moonpool.core.errors import ConnectFailed
from moonpool.http.sse import encode
from moonpool.ports.config import Kind


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str


NOTES = Kind(name="notes/*", shape=Note, summary="Notes.")
KINDS = Kinds([PLATFORM, NOTES])


def platform(port: object, version: int, sequence: int = 0) -> Stored:
    content: dict[str, object] = {"gateway": {"port": port}}
    return Stored(name="platform", version=version, content=content, author="a", sequence=sequence or version)


def note(text: object, sequence: int) -> Stored:
    return Stored(name="notes/a", version=1, content={"text": text}, author="a", sequence=sequence)


def everything(*documents: Stored, sequence: int = 1, epoch: str = "e", stale: bool = False) -> Snapshot:
    return Snapshot(epoch=epoch, sequence=sequence, documents=documents, stale=stale)


def change(document: Stored) -> Changed:
    return Changed(sequence=document.sequence, document=document)


class Source:
    """A config server: each connection says what stands in its script, and then waits."""

    def __init__(self, *scripts: list[Event] | Exception) -> None:
        self.scripts = list(scripts)
        self.asked: list[str] = []
        self.more: asyncio.Queue[Event | None] = asyncio.Queue()

    async def __call__(self, since: str) -> AsyncIterator[bytes]:
        self.asked.append(since)
        script: Any = self.scripts.pop(0) if self.scripts else []
        if isinstance(script, Exception):
            raise script
        for event in script:
            yield encode(msgspec.json.encode(event).decode())
        while (event := await self.more.get()) is not None:
            yield encode(msgspec.json.encode(event).decode())


class Follower:
    def __init__(self, source: Source, **more: Any) -> None:
        self.kept: list[Kept] = []
        self.heard: asyncio.Queue[tuple[str, object, object]] = asyncio.Queue()
        beginning = more.pop("beginning", Beginning(PlatformConfig(), "defaults"))
        self.config = ServerConfig(
            instance="chat-0-1",
            kinds=KINDS,
            beginning=beginning,
            connect=source,
            keep=self.kept.append,
            environ=more.pop("environ", {}),
            log=structlog.get_logger(),
            chance=lambda: 0.0,
            **more,
        )
        self.config.subscribe(PLATFORM, lambda *told: self.heard.put_nowait(told))
        self.config.subscribe(NOTES, lambda *told: self.heard.put_nowait(told))

    async def hear(self) -> tuple[str, object, object]:
        async with asyncio.timeout(5):
            return await self.heard.get()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "FIRST", 0.001)
    monkeypatch.setattr(following, "MOST", 0.002)


async def test_it_starts_with_what_it_has_and_takes_what_comes() -> None:
    source = Source([everything(platform(1, 1))])
    follower = Follower(source)
    assert follower.config.current == PlatformConfig()
    await follower.config.start()
    assert await follower.hear() == (
        "platform",
        PlatformConfig(),
        PlatformConfig(gateway=GatewayConfig(port=1)),
    )
    source.more.put_nowait(change(platform(2, 2)))
    _, _, new = await follower.hear()
    assert new is follower.config.current
    assert follower.config.standing.version == 2
    assert follower.config.standing.live
    assert follower.kept[-1].snapshot.sequence == 2
    assert follower.kept[-1].pending == ("gateway.port",)
    await follower.config.stop()


async def test_a_gap_is_followed_by_everything() -> None:
    source = Source([everything(platform(1, 1))], [everything(platform(5, 5), sequence=5)])
    follower = Follower(source)
    await follower.config.start()
    await follower.hear()
    source.more.put_nowait(change(platform(4, 4)))
    _, _, new = await follower.hear()
    assert isinstance(new, PlatformConfig)
    assert new.gateway.port == 5
    assert source.asked == ["", ""]
    await follower.config.stop()


async def test_a_beat_that_knows_more_is_a_gap() -> None:
    source = Source([everything(platform(1, 1)), Beat(epoch="e", sequence=3)], [everything(platform(3, 3))])
    follower = Follower(source)
    await follower.config.start()
    await follower.hear()
    await follower.hear()
    assert follower.config.current.gateway.port == 3
    await follower.config.stop()


async def test_after_a_loss_it_asks_for_what_is_new() -> None:
    source = Source([everything(platform(1, 1))], ConnectFailed("away"), [Beat(epoch="e", sequence=1)])
    follower = Follower(source)
    await follower.config.start()
    await follower.hear()
    source.more.put_nowait(None)
    async with asyncio.timeout(5):
        while len(source.asked) < 3 or not follower.kept[-1].live:
            await asyncio.sleep(0.001)
    assert source.asked == ["", "e:1", "e:1"]
    assert [kept.live for kept in follower.kept] == [True, False, True]
    assert follower.config.current.gateway.port == 1
    await follower.config.stop()


async def test_a_bad_document_changes_nothing_and_is_told() -> None:
    source = Source([everything(platform(1, 1)), change(platform("many", 2)), change(platform(3, 3))])
    follower = Follower(source)
    await follower.config.start()
    await follower.hear()
    _, old, new = await follower.hear()
    assert isinstance(old, PlatformConfig)
    assert isinstance(new, PlatformConfig)
    assert (old.gateway.port, new.gateway.port) == (1, 3)
    refused = [kept.refused for kept in follower.kept]
    assert "version 2" in refused[1]
    assert refused[-1] == ""
    await follower.config.stop()


async def test_what_a_newer_package_says_does_not_keep_it_from_the_rest() -> None:
    newer = platform(2, 2)
    newer.content["orbits"] = {"low": 1}
    newer.content["gateway"] = {"port": 2, "tides": True}
    told = note("x", 3)
    told.content["colour"] = "blue"
    source = Source([everything(platform(1, 1)), change(newer), change(told)])
    follower = Follower(source)
    await follower.config.start()
    await follower.hear()
    _, _, new = await follower.hear()
    assert isinstance(new, PlatformConfig)
    assert new.gateway.port == 2
    await follower.hear()
    assert follower.config.find(NOTES, "notes/a") == Note("x")
    kept = follower.kept[-1]
    assert kept.refused == ""
    assert kept.snapshot.find("platform").content == newer.content  # for whoever comes after
    await follower.config.stop()


async def test_the_environment_and_the_release_have_their_say() -> None:
    source = Source([everything(platform(1, 1))])

    def view(config: PlatformConfig) -> PlatformConfig:
        return msgspec.structs.replace(config, models={})

    environ = {"MOONPOOL_GATEWAY__WORKERS": "1", "MOONPOOL_GATEWAY__PORT": "7"}
    follower = Follower(source, environ=environ, view=view)
    await follower.config.start()
    await follower.hear()
    assert follower.config.current.gateway.port == 7
    await follower.config.stop()


async def test_other_documents_are_found_by_kind() -> None:
    source = Source([everything(platform(8080, 1), note("one", 1)), change(note("two", 2))])
    follower = Follower(source)
    await follower.config.start()
    assert await follower.hear() == ("notes/a", None, Note("one"))
    assert await follower.hear() == ("notes/a", Note("one"), Note("two"))
    assert follower.config.find(NOTES, "notes/a") == Note("two")
    assert follower.config.find(NOTES, "notes/b") is None
    assert follower.config.find(PLATFORM, "platform") is follower.config.current
    await follower.config.stop()


async def test_documents_of_the_snapshot_are_there_at_once() -> None:
    beginning = Beginning(PlatformConfig(), "snapshot", everything(platform(8080, 1), note("one", 1)))
    follower = Follower(Source(ConnectFailed("away")), beginning=beginning)
    assert follower.config.find(NOTES, "notes/a") == Note("one")
    assert follower.config.standing.version == 1
    assert not follower.config.standing.live


async def test_a_server_without_its_database_takes_nothing_back() -> None:
    behind = everything(platform(1, 1), sequence=1, stale=True)
    source = Source([behind, Beat(epoch="e", sequence=1), everything(platform(2, 2), sequence=2)])
    begun = PlatformConfig(gateway=GatewayConfig(port=9))
    follower = Follower(source, beginning=Beginning(begun, "file"))
    await follower.config.start()
    _, old, _ = await follower.hear()
    assert old == begun
    assert follower.config.current.gateway.port == 2
    assert source.asked == [""]
    await follower.config.stop()


async def test_a_server_with_nothing_better_is_better_than_nothing() -> None:
    source = Source([everything(platform(1, 1), stale=True)])
    follower = Follower(source)
    await follower.config.start()
    await follower.hear()
    assert follower.config.current.gateway.port == 1
    await follower.config.stop()


async def test_nonsense_ends_the_connection_and_nothing_else() -> None:
    source = Source([everything(platform(1, 1))])
    follower = Follower(source)
    await follower.config.start()
    await follower.hear()
    source.more.put_nowait(msgspec.Raw(b'{"type": "nonsense"}'))  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        while len(source.asked) < 2:
            await asyncio.sleep(0.001)
    assert follower.config.current.gateway.port == 1
    await follower.config.stop()
