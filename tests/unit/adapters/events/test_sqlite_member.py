"""Group membership, call by call: two stores stand for two processes."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from moonpool.adapters.events.sqlite_member import Member
from moonpool.adapters.events.sqlite_store import Append, Retention, Store
from moonpool.ports.events import Event


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[list[Store]]:
    made = [Store(tmp_path / "events.db", partitions=8, retention=Retention()) for _ in range(3)]
    made[0].append([Append("t", [Event(f"e{n}", f"k{n}", b"") for n in range(80)], 0)])
    yield made
    for store in made:
        store.close()


def join(store: Store, lease: float = 60.0) -> Member:
    member = Member(store, "t", "g", from_end=False, lease=lease)
    member.join()
    return member


def expire(store: Store, member: Member, seconds: float = -1.0) -> None:
    statement = "UPDATE members SET expires = unixepoch() + ? WHERE id = ?"
    store.connection.execute(statement, (seconds, member._id))


def owned(store: Store) -> dict[str, int]:
    rows = store.connection.execute("SELECT owner, count(*) FROM shares GROUP BY owner")
    return dict(rows.fetchall())


def test_partitions_are_dealt_out_evenly(stores: list[Store]) -> None:
    members = [join(store) for store in stores]
    for _ in range(2):
        for member in members:
            member.heartbeat()
    assert sorted(owned(stores[0]).values()) == [2, 3, 3]


@pytest.mark.parametrize("seconds", [-1.0, 3600.0])
def test_a_lease_that_ran_out_or_ends_too_late_is_over(stores: list[Store], seconds: float) -> None:
    first = join(stores[0])
    assert len(first.poll(100, 1)) == 80
    expire(stores[1], first, seconds)
    second = join(stores[1])
    assert len(second.poll(100, 1)) == 80


def test_who_was_taken_for_dead_commits_nothing_and_comes_back(stores: list[Store]) -> None:
    first = join(stores[0])
    assert len(first.poll(100, 1)) == 80
    expire(stores[1], first)
    second = join(stores[1])
    first.commit()
    assert stores[0].lag("t", "g") == 80
    assert not first.poll(100, 2)  # back, and waits until the second hands over
    assert len(second.poll(100, 1)) > 0
    second.commit()
    second.poll(100, 2)
    second.commit()
    first.heartbeat()
    assert set(owned(stores[0]).values()) == {4}


def test_rewind_gives_back_a_poll_that_nobody_saw(stores: list[Store]) -> None:
    member = join(stores[0])
    first = member.poll(10, 1)
    lost = member.poll(10, 2)
    member.rewind(2)
    member.commit()
    assert stores[0].lag("t", "g") == 70
    again = [event for number in range(3, 12) for event in member.poll(10, number)]
    seen = {event.event.id for event in again}
    assert {event.event.id for event in lost} <= seen
    assert not seen & {event.event.id for event in first}


def test_a_rewind_of_a_poll_that_never_ran_does_nothing(stores: list[Store]) -> None:
    member = join(stores[0])
    assert len(member.poll(100, 1)) == 80
    member.rewind(2)
    member.commit()
    assert stores[0].lag("t", "g") == 0


def test_a_change_that_was_rolled_back_is_looked_at_again(
    stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = join(stores[0])
    first.leave()
    second = join(stores[1])

    def fail(_connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    third = join(stores[2])
    second.heartbeat()  # hands half over
    with monkeypatch.context() as patch:
        patch.setattr(third, "_tell", fail)
        expire(stores[0], second)
        with pytest.raises(sqlite3.OperationalError):
            third.heartbeat()
    assert len(third.poll(100, 1)) == 80
