"""What a process follows: it keeps the last good state, and goes on after every error."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from moonpool.balancing.models import Models
from moonpool.balancing.pools import Pools
from moonpool.contracts.auth import REVOCATIONS, Verdict
from moonpool.contracts.catalogue import Catalogue, Model, Target
from moonpool.core.clock import ManualClock
from moonpool.core.errors import Unavailable
from moonpool.core.principal import Principal
from moonpool.middleware.authentication import KeyCache
from moonpool.ports.discovery import Instance, Topology
from moonpool.ports.events import Delivered, Event
from moonpool.wiring import following
from moonpool.wiring.following import CatalogueFollower, RevocationFollower, TopologyFollower


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __getattr__(self, level: str):
        if level.startswith("_"):
            raise AttributeError(level)
        return lambda event, **fields: self.lines.append((level, event))


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "POLL", 0.005)
    monkeypatch.setattr(following, "HURRY", 0.001)


def catalogue(version: int, *names: str, url: str = "http://x.example/v1") -> Catalogue:
    return Catalogue(version, tuple(Model(id=n, targets=(Target(id=n, url=url),)) for n in names))


class Source:
    """Answers in the order given; the last answer stays."""

    def __init__(self, *answers: Catalogue | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def catalogue(self, known: int | None = None) -> Catalogue:
        self.asked += 1
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def test_the_catalogue_is_followed_and_kept(tmp_path: Path, log: Log) -> None:
    models, snapshot = Models(Pools()), tmp_path / "catalogue.json"
    follower = CatalogueFollower(Source(catalogue(1, "a"), catalogue(2, "b")), models, snapshot, log)
    await follower.start()
    await until(lambda: models.version == 2)
    await until(snapshot.exists)
    await follower.stop()
    assert msgspec.json.decode(snapshot.read_bytes(), type=Catalogue) == catalogue(2, "b")
    assert models.get("b", "chat").id == "b"


async def test_a_process_starts_from_the_last_known_one(tmp_path: Path, log: Log) -> None:
    snapshot = tmp_path / "catalogue.json"
    snapshot.write_bytes(msgspec.json.encode(catalogue(7, "a")))
    models = Models(Pools())
    follower = CatalogueFollower(Source(Unavailable("away")), models, snapshot, log)
    await follower.start()
    assert models.get("a", "chat").id == "a"
    await until(lambda: ("debug", "cannot follow") in log.lines)
    await follower.stop()
    assert models.version == 7


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"version": 1, "models": [{"id": 3}]}', b"\xff"])
async def test_a_broken_snapshot_is_told_and_passed_over(tmp_path: Path, log: Log, text: bytes) -> None:
    snapshot = tmp_path / "catalogue.json"
    snapshot.write_bytes(text)
    models = Models(Pools())
    follower = CatalogueFollower(Source(catalogue(1, "a")), models, snapshot, log)
    await follower.start()
    assert log.lines[0] == ("warning", "no last known catalogue")
    await until(lambda: models.version == 1)
    await follower.stop()


async def test_a_catalogue_with_a_bad_address_changes_nothing(tmp_path: Path, log: Log) -> None:
    models = Models(Pools())
    source = Source(catalogue(1, "a"), catalogue(2, "b", url="ftp://x"), catalogue(3, "c"))
    follower = CatalogueFollower(source, models, tmp_path / "c.json", log)
    await follower.start()
    await until(lambda: models.version == 3)
    await follower.stop()
    assert ("error", "cannot follow") in log.lines


async def test_a_snapshot_that_cannot_be_written_stops_nothing(tmp_path: Path, log: Log) -> None:
    models = Models(Pools())
    follower = CatalogueFollower(Source(catalogue(1, "a")), models, tmp_path / "no" / "c.json", log)
    await follower.start()
    await until(lambda: models.version == 1)
    await until(lambda: ("warning", "catalogue not kept") in log.lines)
    await follower.stop()


class Revocations:
    """An event log that fails the first time it is joined."""

    def __init__(self, *keys: str) -> None:
        self.keys, self.joined, self.committed = list(keys), 0, 0

    def consumer(self, topic: str, group: str, *, from_end: bool = False):
        assert (topic, group, from_end) == (REVOCATIONS, "gateway-0", True)
        return self

    async def __aenter__(self):
        self.joined += 1
        if self.joined == 1:
            raise Unavailable("not there yet")
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def poll(self, *, limit: int = 500, wait: float = 1.0) -> list[Delivered]:
        if not self.keys:
            await asyncio.Event().wait()
        keys, self.keys = self.keys, []
        return [Delivered(REVOCATIONS, 0, n, 0.0, Event(str(n), key, b"")) for n, key in enumerate(keys)]

    async def commit(self) -> None:
        self.committed += 1


async def test_revoked_keys_are_forgotten(log: Log) -> None:
    cache, events = KeyCache(ManualClock()), Revocations("key_1", "key_unknown")
    cache.learn(b"1", Verdict(principal=Principal(user="u", key="key_1")))
    cache.learn(b"2", Verdict(principal=Principal(user="u", key="key_2")))
    follower = RevocationFollower(events, cache, "gateway-0", log)  # type: ignore[arg-type]
    await follower.start()
    await until(lambda: events.committed == 1)
    await follower.stop()
    assert cache.get(b"1") is None
    assert cache.get(b"2") is not None


class Found:
    def __init__(self) -> None:
        self.current, self.callback, self.running = Topology(), None, False

    def subscribe(self, callback) -> None:
        self.callback = callback

    async def start(self) -> None:
        self.running = True

    async def stop(self) -> None:
        self.running = False


async def test_the_topology_is_followed() -> None:
    def topology(version: int, *names: str) -> Topology:
        return Topology(
            version,
            tuple(
                Instance(
                    name="chat", release="v1", instance=n, pid=1, state="ready", endpoint=f"unix:/run/{n}"
                )
                for n in names
            ),
        )

    discovery, pools = Found(), Pools()
    discovery.current = topology(1, "chat-0")
    follower = TopologyFollower(discovery, pools)
    await follower.start()
    assert [e.instance for e in pools.endpoints("chat")] == ["chat-0"]
    discovery.callback(topology(2, "chat-0", "chat-1"))
    assert [e.instance for e in pools.endpoints("chat")] == ["chat-0", "chat-1"]
    await follower.stop()
    assert not discovery.running
