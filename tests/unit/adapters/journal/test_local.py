"""The local journal: what returned is there, what is published is dropped, and told at least once."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from moonpool.adapters.journal import local
from moonpool.adapters.journal.local import LocalJournal
from moonpool.core.errors import Unavailable


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __getattr__(self, level: str):
        if level.startswith("_"):
            raise AttributeError(level)
        return lambda event, **fields: self.lines.append((level, event))

    def at(self, level: str) -> list[str]:
        return [event for at, event in self.lines if at == level]


class Events:
    def __init__(self) -> None:
        self.away = False
        self.appended: list[tuple[str, str, list[dict]]] = []

    async def append(self, topic: str, events) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("away")
        for event in events:
            self.appended.append((topic, event.id, [json.loads(line) for line in event.value.split(b"\n")]))

    @property
    def records(self) -> list[str]:
        return [record["id"] for _, _, records in self.appended for record in records]

    def find(self, id: str) -> dict:
        return next(record for _, _, records in self.appended for record in records if record["id"] == id)


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def make(tmp_path: Path, events: Events, log: Log, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local, "INTERVAL", 0.005)
    monkeypatch.setattr(local, "ORPHANS_EVERY", 0.0)

    def journal(instance: str = "gateway-0-1") -> LocalJournal:
        return LocalJournal(tmp_path / "spool", "usage", instance, events, log)  # type: ignore[arg-type]

    return journal


def record(id: str, **fields: object) -> bytes:
    return json.dumps({"id": id, "usage": {"prompt_tokens": 5}, **fields}).encode()


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "spool").iterdir())


def die(journal: LocalJournal) -> None:
    """As kill -9 leaves it: the file as it is, its lock gone with the process."""
    if journal._task is not None:
        journal._task.cancel()
    os.close(journal._fd)
    journal._fd = -1


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_what_is_closed_is_published_and_dropped(make, events, tmp_path) -> None:
    journal = make()
    await journal.start()
    for n in range(3):
        journal.close(f"r{n}", record(f"r{n}"))
    await until(lambda: len(events.records) == 3)
    await until(lambda: (tmp_path / "spool" / "usage-gateway-0-1-1.journal").stat().st_size == 0)
    await journal.stop()
    assert events.records == ["r0", "r1", "r2"]
    assert files(tmp_path) == []


async def test_stop_publishes_what_is_left(make, events, tmp_path) -> None:
    journal = make()
    await journal.start()
    journal.close("r", record("r"))
    await journal.stop()
    assert events.records == ["r"]
    assert files(tmp_path) == []


async def test_many_records_are_one_event_each_batch_with_an_id_of_its_own(make, events) -> None:
    journal = make()
    await journal.start()
    for n in range(100):
        journal.close(f"r{n}", record(f"r{n}"))
    await until(lambda: len(events.records) == 100)
    assert len(events.appended) < 10
    await until(lambda: journal._size == 0)
    journal.close("again", record("again"))
    await journal.stop()
    ids = [id for _, id, _ in events.appended]
    assert len(ids) == len(set(ids))


async def test_what_comes_while_a_round_publishes_is_for_the_next_round(make, events, monkeypatch) -> None:
    """Otherwise a busy process publishes request by request, without a pause."""
    monkeypatch.setattr(local, "INTERVAL", 60)
    journal = make()
    await journal.start()
    append = events.append

    async def while_requests_go_on(topic, batch) -> None:
        await append(topic, batch)
        if len(events.appended) < 50:
            journal.close(f"r{len(events.appended)}", record(f"r{len(events.appended)}"))

    events.append = while_requests_go_on
    journal.close("r0", record("r0"))
    await journal._publish()
    assert len(events.appended) == 1
    assert journal.waiting_bytes
    monkeypatch.setattr(local, "SEGMENT", 10)  # to be left: then all of it
    await journal._publish()
    assert len(events.appended) == 50
    assert not journal.waiting_bytes
    await journal.stop()
    assert events.records == [f"r{n}" for n in range(50)]


async def test_a_record_is_in_the_file_when_the_call_returns(make, events, tmp_path) -> None:
    events.away = True
    journal = make()
    await journal.start()
    journal.open("s", record("s"))
    journal.progress("s", 32)
    journal.close("r", record("r"))
    text = (tmp_path / "spool" / "usage-gateway-0-1-1.journal").read_bytes()
    assert [line[:4] for line in text.splitlines()] == [b"O s ", b"P s ", b"C r "]
    die(journal)


async def test_the_dead_are_taken_over(make, events, log, tmp_path) -> None:
    events.away = True
    dead = make("gateway-0-1")
    await dead.start()
    dead.close("done", record("done"))
    dead.open("left", record("left"))
    dead.progress("left", 32)
    dead.progress("left", 64)
    dead.open("new", record("new"))
    dead.open("ended", record("ended"))
    dead.close("ended", record("ended", outcome="completed"))
    die(dead)
    events.away = False
    journal = make("gateway-0-2")
    await journal.start()
    await until(lambda: len(events.records) == 4)
    await until(lambda: len(files(tmp_path)) == 1)
    assert sorted(events.records) == ["done", "ended", "left", "new"]
    assert events.find("left")["usage"] == {"prompt_tokens": 5, "completion_tokens": 64}
    assert events.find("new")["usage"]["completion_tokens"] == 0
    assert events.find("ended")["outcome"] == "completed"
    assert log.at("info") == ["took over a journal"]
    await journal.stop()


async def test_a_restart_under_the_same_name_takes_nothing_for_its_own(make, events, tmp_path) -> None:
    """Its predecessor's open streams would be dropped with the segment, untold."""
    events.away = True
    dead = make()
    await dead.start()
    dead.open("left", record("left"))
    die(dead)
    events.away = False
    journal = make()
    await journal.start()
    assert len(files(tmp_path)) == 2
    journal.close("r", record("r"))
    await until(lambda: sorted(events.records) == ["left", "r"])
    await journal.stop()
    assert files(tmp_path) == []


async def test_the_living_are_left_alone(make, events, tmp_path) -> None:
    one, other = make("gateway-0-1"), make("gateway-1-1")
    await one.start()
    await other.start()
    one.open("s", record("s"))
    other.close("r", record("r"))
    await until(lambda: events.records == ["r"])
    for _ in range(3):
        await other._adopt_orphans()
    assert len(files(tmp_path)) == 2
    assert events.records == ["r"]
    one.close("s", record("s"))
    await one.stop()
    await other.stop()
    assert sorted(events.records) == ["r", "s"]


async def test_a_segment_that_is_taken_for_an_orphan_in_the_making_is_left(
    make, events, monkeypatch, tmp_path
) -> None:
    """Another process looks for orphans between our open and our lock."""
    locked, calls = local._locked, []

    def late(fd: int) -> bool:
        calls.append(fd)
        if len(calls) == 1:
            os.unlink(tmp_path / "spool" / "usage-gateway-0-1-1.journal")
        return locked(fd)

    monkeypatch.setattr(local, "_locked", late)
    journal = make()
    await journal.start()
    assert files(tmp_path) == ["usage-gateway-0-1-2.journal"]
    await journal.stop()


@pytest.mark.parametrize("torn", [b"C torn", b'C torn {"id": "to', b"P le", b"\0\0\0\0"])
async def test_a_torn_last_line_is_passed_over(make, events, tmp_path, torn: bytes) -> None:
    (tmp_path / "spool").mkdir()
    orphan = tmp_path / "spool" / "usage-gateway-9-9-1.journal"
    orphan.write_bytes(b"C r %b\nO s %b\n" % (record("r"), record("s")) + torn)
    journal = make()
    await journal.start()
    await until(lambda: not orphan.exists())
    await journal.stop()
    assert sorted(events.records) == ["r", "s"]


@pytest.mark.parametrize(
    "line", [b"", b"C", b"C x", b"C x {", b"X y {}", b"O y []", b"P s many", b"\0" * 50, b"C x \xff\xfe"]
)
async def test_unreadable_lines_are_told_and_the_rest_is_saved(
    make, events, log, tmp_path, line: bytes
) -> None:
    (tmp_path / "spool").mkdir()
    orphan = tmp_path / "spool" / "usage-gateway-9-9-1.journal"
    orphan.write_bytes(b"C r %b\n%b\nO s %b\n" % (record("r"), line, record("s")))
    journal = make()
    await journal.start()
    await until(lambda: not orphan.exists())
    journal.close("alive", record("alive"))
    await journal.stop()
    assert sorted(events.records) == ["alive", "r", "s"]
    assert log.at("error") == ["unreadable line in a journal"]


async def test_while_the_event_log_is_away_nothing_is_lost(make, events, log, tmp_path) -> None:
    journal = make()
    await journal.start()
    events.away = True
    for n in range(5):
        journal.close(f"r{n}", record(f"r{n}"))
    await until(lambda: log.at("warning"))
    assert journal.healthy
    events.away = False
    await until(lambda: len(events.records) == 5)
    await journal.stop()
    assert events.records == [f"r{n}" for n in range(5)]


async def test_a_stop_while_the_event_log_is_away_leaves_the_file_to_the_next(make, events, tmp_path) -> None:
    journal = make("gateway-0-1")
    await journal.start()
    events.away = True
    journal.close("r", record("r"))
    await journal.stop()
    assert len(files(tmp_path)) == 1
    events.away = False
    following = make("gateway-0-2")
    await following.start()
    await until(lambda: events.records == ["r"])
    await following.stop()
    assert files(tmp_path) == []


async def test_a_stop_with_open_streams_leaves_them_to_the_next(make, events, tmp_path) -> None:
    journal = make("gateway-0-1")
    await journal.start()
    journal.open("s", record("s"))
    await journal.stop()
    following = make("gateway-0-2")
    await following.start()
    await until(lambda: events.records == ["s"])
    await following.stop()


async def test_a_full_disk_is_told_and_nothing_is_lost_or_mixed(
    make, events, log, tmp_path, monkeypatch
) -> None:
    journal = make()
    await journal.start()
    write, room = os.write, [30]

    def limited(fd: int, data: bytes) -> int:
        if fd != journal._fd:
            return write(fd, data)
        if room[0] <= 0:
            raise OSError(28, "No space left on device")
        taken = write(fd, data[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", limited)
    for n in range(4):
        journal.open(f"r{n}", record(f"r{n}"))
        journal.progress(f"r{n}", 7)
        journal.close(f"r{n}", record(f"r{n}"))
    assert not journal.healthy
    await asyncio.sleep(0.03)
    assert events.records == []
    room[0] = 45  # a line and a half
    await asyncio.sleep(0.03)
    assert not journal.healthy
    room[0] = 10**6
    await until(lambda: journal.healthy and len(events.records) == 4)
    await journal.stop()
    assert events.records == [f"r{n}" for n in range(4)]
    assert files(tmp_path) == []


async def test_what_cannot_even_be_held_is_told(make, log, monkeypatch) -> None:
    monkeypatch.setattr(local, "HELD", 3)
    journal = make()
    await journal.start()
    monkeypatch.setattr(os, "write", lambda fd, data: (_ for _ in ()).throw(OSError(28, "full")))
    for n in range(5):
        journal.close(f"r{n}", record(f"r{n}"))
    assert log.at("error").count("the journal holds no more: a record is lost") == 2
    await journal.stop()
    assert log.at("error")[-1] == "records are lost with this process"


async def test_a_long_segment_is_left_and_open_streams_go_on_in_the_next(
    make, events, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(local, "SEGMENT", 2000)
    journal = make()
    await journal.start()
    journal.open("s", record("s"))
    journal.progress("s", 32)
    for n in range(40):
        journal.close(f"r{n}", record(f"r{n}"))
    await until(lambda: files(tmp_path) == ["usage-gateway-0-1-2.journal"])
    die(journal)
    following = make("gateway-0-2")
    await following.start()
    await until(lambda: len(events.records) == 41)
    await following.stop()
    assert events.find("s")["usage"]["completion_tokens"] == 32


async def test_a_new_segment_that_cannot_be_made_loses_nothing(make, events, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(local, "SEGMENT", 100)
    journal = make()
    await journal.start()
    opened, full = os.open, [True]

    def refuse(path, flags, *mode, **rest) -> int:
        if full[0] and flags & os.O_CREAT and str(path).endswith(".journal"):
            raise OSError(28, "No space left on device")
        return opened(path, flags, *mode, **rest)

    monkeypatch.setattr(os, "open", refuse)
    journal.open("s", record("s"))
    for n in range(5):
        journal.close(f"r{n}", record(f"r{n}"))
    await until(lambda: len(events.records) == 5)
    full[0] = False
    await until(lambda: journal._path.exists() and journal._path.name != "usage-gateway-0-1-1.journal")
    journal.close("s", record("s"))
    await journal.stop()
    assert files(tmp_path) == []
    assert sorted(events.records) == ["r0", "r1", "r2", "r3", "r4", "s"]


async def test_descriptors_do_not_leak(make, events, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(local, "SEGMENT", 200)
    before = len(os.listdir("/proc/self/fd"))
    for n in range(10):
        journal = make(f"gateway-0-{n}")
        await journal.start()
        for m in range(10):
            journal.close(f"r{n}.{m}", record(f"r{n}.{m}"))
        await asyncio.sleep(0.01)
        if n % 2:
            die(journal)
        else:
            await journal.stop()
    last = make("gateway-0-last")
    await last.start()
    await until(lambda: len(set(events.records)) == 100)
    await last.stop()
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_only_its_owner_can_read_the_folder(make, tmp_path) -> None:
    journal = make()
    await journal.start()
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "spool" / files(tmp_path)[0]).stat().st_mode & 0o777 == 0o600
    await journal.stop()
