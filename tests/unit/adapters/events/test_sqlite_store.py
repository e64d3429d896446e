"""Retention, bounds, and partitions of the SQLite store."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from moonpool.adapters.events.sqlite_member import Member
from moonpool.adapters.events.sqlite_store import Append, Retention, Store, event_size, partition_of
from moonpool.core.errors import StartupError, Unavailable
from moonpool.ports.events import Event

KEEP_NOTHING = Retention(seconds=-1.0)


def append(store: Store, count: int, *, topic: str = "t", size: int = 100) -> list[Unavailable | None]:
    events = [Event(f"e{number}", f"k{number}", b"x" * size) for number in range(count)]
    return store.append([Append(topic, events, sum(event_size(event) for event in events))])


def retain(store: Store) -> int:
    total = 0
    while deleted := store.retain():
        total += deleted
    return total


def member(store: Store, group: str = "g") -> Member:
    made = Member(store, "t", group, from_end=False, lease=60.0)
    made.join()
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with closing(Store(path, partitions=4, retention=KEEP_NOTHING)) as store:
        yield store


def test_partitions_are_librdkafkas() -> None:
    # CRC-32 check value of the standard test string: 0xCBF43926
    assert partition_of("123456789", 2**32) == 0xCBF43926
    assert {partition_of(f"key {number}", 8) for number in range(100)} == set(range(8))


def test_old_events_go_when_every_group_has_committed_them(store: Store) -> None:
    append(store, 100)
    one, two = member(store, "one"), member(store, "two")
    assert len(one.poll(1000, 1)) == 100
    one.commit()
    assert retain(store) == 0
    assert len(two.poll(60, 1)) == 60
    two.commit()
    assert retain(store) == 60
    assert len(two.poll(1000, 2)) == 40
    assert store.lag("t", "two") == 40


def test_without_groups_all_old_events_go_and_offsets_go_on(store: Store) -> None:
    append(store, 10)
    assert retain(store) == 10
    assert store.lag("t", "g") == 0
    append(store, 10)
    assert {event.offset for event in member(store).poll(100, 1)} != set(range(10))


def test_more_than_one_step_is_deleted(store: Store) -> None:
    append(store, 9000, size=1)
    assert retain(store) == 9000


def test_size_bounds_what_is_kept(path: Path) -> None:
    with closing(Store(path, partitions=1, retention=Retention(bytes=10_000))) as store:
        append(store, 1000)
        kept = 1000 - retain(store)
        assert 10_000 / 160 <= kept <= 10_000 / 140
        assert [event.offset for event in member(store).poll(1, 1)] == [1000 - kept]


def test_nothing_is_deleted_that_is_young_and_small(path: Path) -> None:
    with closing(Store(path, partitions=4, retention=Retention())) as store:
        append(store, 100)
        assert retain(store) == 0


def test_a_full_topic_refuses_and_leaves_the_others_alone(path: Path) -> None:
    with closing(Store(path, partitions=2, retention=Retention(maximum_bytes=5000, seconds=-1.0))) as store:
        small = Append("other", [Event("e", "k", b"")], 50)
        large = Append("t", [Event("e", "k", b"x" * 6000)], 6050)
        verdicts = store.append([small, large, small])
        assert verdicts[0] is verdicts[2] is None
        assert verdicts[1] is not None
        assert verdicts[1].hint
        assert store.lag("other", "g") == 2
        assert store.lag("t", "g") == 0
        assert append(store, 20) == [None]
        assert append(store, 20) != [None]
        retain(store)
        assert append(store, 20) == [None]


def test_a_group_that_nobody_is_in_is_forgotten(path: Path) -> None:
    with closing(Store(path, partitions=2, retention=Retention(seconds=-1.0, group_seconds=-1.0))) as store:
        append(store, 10)
        gone, there = member(store, "gone"), member(store, "there")
        gone.leave()
        assert len(there.poll(100, 1)) == 10
        there.commit()
        assert retain(store) == 10


def test_a_full_disk_leaves_nothing_half_written(store: Store) -> None:
    append(store, 1)
    pages = store._durable.execute("PRAGMA page_count").fetchone()[0]
    store._durable.execute(f"PRAGMA max_page_count = {pages + 20}")  # SQLite's own SQLITE_FULL
    with pytest.raises(sqlite3.OperationalError, match="full"):
        append(store, 1000, size=1000)
    assert store.lag("t", "g") == 1
    assert append(store, 1) == [None]


def test_a_newer_log_is_refused(store: Store, path: Path) -> None:
    store.connection.execute("PRAGMA user_version = 2")
    with pytest.raises(StartupError, match="newer") as caught:
        Store(path, partitions=4, retention=KEEP_NOTHING)
    assert caught.value.where == str(path)


def test_a_file_that_is_no_log_is_refused(path: Path) -> None:
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(StartupError, match="cannot be opened"):
        Store(path, partitions=4, retention=KEEP_NOTHING)


def test_who_consumes_moves_the_log_into_the_database_and_not_who_appends(store: Store, path: Path) -> None:
    """It takes milliseconds, which an appending gateway's clients would wait for."""
    consumer = member(store)
    small = path.stat().st_size
    for _ in range(10):
        append(store, 10, size=60_000)  # 150 pages
    assert path.stat().st_size == small
    assert consumer.poll(10, 1)
    consumer.commit()
    assert path.stat().st_size > small + 5_000_000
