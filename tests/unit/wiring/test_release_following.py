"""The supervisor's shelf and the config server's documents come to the same, whatever is killed between them.

The config server is the real one, on a real database; only the wire between them is played.
"""

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog

from moonpool.adapters.config import server as following
from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.configserver.faults import Author
from moonpool.configserver.hub import Hub
from moonpool.configserver.judging import Judge
from moonpool.configserver.service import ConfigService, Expected
from moonpool.configserver.views import Rollback
from moonpool.contracts.documents.kinds import Kinds
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.documents.sparse import sparse
from moonpool.contracts.documents.validation import DocumentFault
from moonpool.contracts.releases import (
    CommandSource,
    EnvironmentSource,
    ListedRelease,
    Overrides,
    Release,
    ReleaseList,
    ServiceReleases,
    sealed,
)
from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.core.errors import MoonpoolError, Unavailable, Unprocessable
from moonpool.ports.discovery import Instance
from moonpool.upgrade.documents import ROUTING
from moonpool.upgrade.release_documents import SUPERVISOR
from moonpool.wiring import shelf as shelves
from moonpool.wiring.adapters import CONFIG_MIGRATIONS
from moonpool.wiring.layout import Layout
from moonpool.wiring.release_files import RELEASES
from moonpool.wiring.release_following import ReleaseFollower
from moonpool.wiring.shelf import Shelf
from moonpool.wiring.topology import TopologyFile

ANN = Author("operator:ann", local=True)
KINDS = Kinds([PLATFORM, ROUTING, RELEASES])


def release(label: str, service: str = "chat", **more: object) -> Release:
    return sealed(Release(service=service, label=label, **more))  # type: ignore[arg-type]


class Wire:
    """Between the two: `down` breaks every connection, as a kill -9 of the server does."""

    def __init__(self, service: ConfigService, hub: Hub) -> None:
        self.service = service
        self.hub = hub
        self.away = False
        self.firsts = 0
        self._cut = asyncio.Event()

    async def connect(self, since: str) -> AsyncIterator[bytes]:
        if self.away:
            raise Unavailable("no config server runs")
        events = self.hub.watch(since)
        cut = asyncio.ensure_future(self._cut.wait())
        try:
            while True:
                event = asyncio.ensure_future(anext(events))
                await asyncio.wait({event, cut}, return_when=asyncio.FIRST_COMPLETED)
                if cut.done():
                    event.cancel()
                    await asyncio.gather(event, return_exceptions=True)
                    raise Unavailable("reset")
                yield event.result()
        finally:
            cut.cancel()

    async def first(self, name: str, content: object, reason: str) -> None:
        self.firsts += 1
        if self.away:
            raise Unavailable("no config server runs")
        assert isinstance(content, dict)
        author = Author(SUPERVISOR, service=SUPERVISOR)
        try:
            await self.service.put(name, content, Expected(0), author, reason)
        except DocumentFault as fault:  # as it arrives over HTTP
            raise Unprocessable(fault.message) from None

    def down(self) -> None:
        self.away = True
        self._cut.set()

    def up(self) -> None:
        self.away = False
        self._cut = asyncio.Event()


class World:
    def __init__(self, layout: Layout, wire: Wire) -> None:
        self.layout = layout
        self.wire = wire
        self.shelf = Shelf(layout)
        self.follower = self._new()

    def _new(self) -> ReleaseFollower:
        return ReleaseFollower(self.shelf, self.wire, structlog.get_logger())

    async def restart(self) -> None:
        """The supervisor is killed, and another one starts."""
        await self.follower.stop()
        self.follower = self._new()
        await self.follower.start()

    async def write(self, *releases: Release, service: str = "chat") -> int:
        present = self.wire.service.snapshot.find(f"releases/{service}")
        version = present.version if present else 0
        content = sparse(ServiceReleases(service=service, releases={each.label: each for each in releases}))
        assert isinstance(content, dict)
        done = await self.wire.service.put(f"releases/{service}", content, Expected(version), ANN, "")
        return done.version

    def document(self, service: str = "chat") -> list[str] | None:
        found = self.wire.service.snapshot.find(f"releases/{service}")
        if found is None:
            return None
        releases = found.content.get("releases", {})
        assert isinstance(releases, dict)
        return sorted(releases)

    def labels(self, service: str = "chat") -> list[str]:
        return sorted(self.shelf.labels(service))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.002)


async def open_service(database: Path, hub: Hub) -> ConfigService:
    service = ConfigService(
        database=SqliteDatabase(database, CONFIG_MIGRATIONS),
        judge=Judge(KINDS, {}),
        hub=hub,
        clock=SYSTEM_CLOCK,
        log=structlog.get_logger(),
    )
    await service.start()
    return service


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(following, "FIRST", 0.001)
    monkeypatch.setattr(following, "MOST", 0.002)
    hub = Hub(beat=0.05)
    service = await open_service(tmp_path / "config.db", hub)
    layout = Layout(tmp_path / "data")
    layout.create()
    found = World(layout, Wire(service, hub))
    yield found
    await found.follower.stop()
    await found.wire.service.stop()


def put_before(world: World, *releases: Release) -> None:
    """As a platform had it that knew no documents of releases."""
    listed = tuple(ListedRelease(release=each, since=7.0) for each in releases)
    shelves._write(world.layout.releases / "list.json", ReleaseList(listed))


def running(world: World, *labels: str) -> None:
    instances = tuple(
        Instance(name="chat", release=label, instance=f"chat-1-{label}", pid=1, state="ready", endpoint="")
        for label in labels
    )
    TopologyFile(world.layout.topology).publish(instances)


async def test_what_is_added_and_removed_is_followed(world: World) -> None:
    await world.follower.start()
    await world.write(release("v2"), release("v3"))
    await world.until(lambda: world.labels() == ["v2", "v3"])
    await world.write(release("v3"))
    await world.until(lambda: world.labels() == ["v3"])
    await world.write(release("v2", "auth"), service="auth")
    await world.until(lambda: world.labels("auth") == ["v2"])
    assert world.labels() == ["v3"]


async def test_what_was_there_before_documents_becomes_the_first_ones_once(world: World) -> None:
    put_before(world, release("v2"), release("v3"), release("v2", "auth"))
    await world.follower.start()
    await world.until(lambda: world.document() == ["v2", "v3"] and world.document("auth") == ["v2"])
    stored = world.wire.service.snapshot.find("releases/chat")
    assert stored is not None
    assert (stored.version, stored.author, stored.reason) == (1, "supervisor", "what was added before")
    assert world.document("user") is None
    await world.write()
    await world.until(lambda: world.labels() == [])
    await world.restart()
    await world.write(release("v2", "user"), service="user")
    await world.until(lambda: world.labels("user") == ["v2"])
    assert world.document() == []  # emptied by a person, and not filled again from anywhere


async def test_documents_that_are_lost_are_made_again(world: World, tmp_path: Path) -> None:
    await world.follower.start()
    await world.write(release("v2"))
    await world.until(lambda: world.labels() == ["v2"])
    world.wire.down()
    lost, other = world.wire.service, Hub(beat=0.05)
    world.wire.service, world.wire.hub = await open_service(tmp_path / "other.db", other), other
    world.wire.up()
    await world.until(lambda: world.document() == ["v2"])
    assert world.labels() == ["v2"]
    await lost.stop()


async def test_who_was_quicker_has_written_the_first_document(world: World) -> None:
    put_before(world, release("v2"))
    await world.write(release("v2"), release("v3"))
    await world.follower.start()
    await world.until(lambda: world.labels() == ["v2", "v3"])
    assert world.wire.firsts == 0


async def test_a_supervisor_killed_before_it_wrote_its_file_finds_out(world: World) -> None:
    await world.follower.start()
    await world.write(release("v2"))
    await world.until(lambda: world.labels() == ["v2"])
    await world.follower.stop()
    await world.write(release("v3"))
    assert world.labels() == ["v2"]
    await world.restart()
    await world.until(lambda: world.labels() == ["v3"])


async def test_a_config_server_killed_after_a_change_tells_of_it_when_it_is_back(world: World) -> None:
    await world.follower.start()
    await world.write(release("v2"))
    await world.until(lambda: world.labels() == ["v2"])
    world.wire.down()
    await world.write(release("v2"), release("v3"))
    await asyncio.sleep(0.02)
    assert world.labels() == ["v2"]
    world.wire.up()
    await world.until(lambda: world.labels() == ["v2", "v3"])


async def test_a_server_away_stops_nothing_and_gets_the_first_document_later(world: World) -> None:
    put_before(world, release("v2"))
    world.wire.down()
    await world.follower.start()
    world.follower.look()
    assert world.shelf.find("chat", "v2").label == "v2"
    world.wire.up()
    await world.until(lambda: world.document() == ["v2"])


async def test_a_disk_that_refuses_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.follower.start()
    real, full, refusals = os.fsync, True, 0

    def fsync(fd: int) -> None:
        nonlocal refusals
        if full:
            refusals += 1
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(shelves.os, "fsync", fsync)
    await world.write(release("v2"))
    await world.until(lambda: refusals > 0)
    assert world.labels() == []
    full = False
    world.follower.look()
    assert world.labels() == ["v2"]


async def test_what_runs_stays_until_it_has_ended(world: World) -> None:
    await world.follower.start()
    await world.write(release("v2"), release("v3"))
    await world.until(lambda: world.labels() == ["v2", "v3"])
    running(world, "v2")
    world.shelf.want("chat", {"v1": 1, "v3": 1})
    await world.write()
    await world.write(release("v4"))
    await world.until(lambda: "v4" in world.labels())
    assert world.labels() == ["v2", "v3", "v4"]
    world.shelf.want("chat", None)
    world.follower.look()
    assert world.labels() == ["v2", "v4"]
    running(world)
    world.follower.look()
    assert world.labels() == ["v4"]


async def test_a_label_that_runs_keeps_its_meaning(world: World) -> None:
    old, new = release("v2"), release("v2", source=CommandSource(argv=("x",)))
    await world.follower.start()
    await world.write(old)
    await world.until(lambda: world.labels() == ["v2"])
    running(world, "v2")
    await world.write()
    await world.write(new, release("v3"))
    await world.until(lambda: "v3" in world.labels())
    assert world.shelf.find("chat", "v2") == old
    running(world)
    world.follower.look()
    assert world.shelf.find("chat", "v2") == new


async def test_a_document_that_cannot_be_taken_over_is_left_alone(world: World) -> None:
    leaking = release("v2", overrides=Overrides(environment={"TOKEN": "x"}))
    put_before(world, leaking)
    await world.follower.start()
    await world.until(lambda: world.wire.firsts > 0)
    await world.write(release("v2", "auth"), service="auth")
    await world.until(lambda: world.labels("auth") == ["v2"])
    assert world.document() is None
    assert world.shelf.find("chat", "v2") == leaking
    for _ in range(3):
        world.follower.look()
        await asyncio.sleep(0.005)
    refusals = [one for one in await world.wire.service.audited("", None, 10) if one.action == "refused"]
    assert [one.name for one in refusals] == ["releases/chat"]


async def test_what_runs_and_cannot_be_taken_over_ends_in_its_own_time(world: World) -> None:
    leaking = release("v2", overrides=Overrides(environment={"TOKEN": "x"}))
    put_before(world, leaking, release("v3"))
    running(world, "v2")
    await world.follower.start()
    await world.until(lambda: world.document() == ["v3"])
    await world.write(release("v3"), release("v4"))
    await world.until(lambda: "v4" in world.labels())
    assert world.labels() == ["v2", "v3", "v4"]
    running(world)
    world.follower.look()
    assert world.labels() == ["v3", "v4"]


async def test_what_was_built_goes_with_its_release_and_does_not_come_back(world: World) -> None:
    place = world.shelf.place("chat", "v2")
    python = place / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    built = release("v2", source=EnvironmentSource(path=str(place / "venv")))
    await world.follower.start()
    version = await world.write(built)
    await world.until(lambda: world.labels() == ["v2"])
    await world.write()
    await world.until(lambda: world.labels() == [])
    await world.until(lambda: not list(place.parent.glob(f"*{place.name}*")))
    with pytest.raises(DocumentFault, match="cannot come back: its virtual environment is gone") as refused:
        await world.wire.service.rollback("releases/chat", Rollback(to=version), Expected(), ANN)
    assert refused.value.param == "releases.v2"
    assert "release add chat" in (refused.value.hint or "")
    assert world.document() == []


async def test_a_first_document_that_is_not_the_machines_is_refused(world: World) -> None:
    admin = dataclasses.replace(ANN, local=False)
    with pytest.raises(MoonpoolError, match="only its users may change it"):
        await world.wire.service.put("releases/chat", {"service": "chat"}, Expected(0), admin, "")
