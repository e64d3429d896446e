"""The statements of the SQLite event log: append, lag, retention. Synchronous; one thread owns a store.

An append is durable (synchronous FULL: an fsync a commit). What a crash of the machine may take back
without loss, leases and committed offsets, goes through a second connection without an fsync: the
consumers would only see some events again.
"""

import sqlite3
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from moonpool.adapters.events.sqlite_schema import NOW, OFFSET_BITS, connect, prepare, writing
from moonpool.core.errors import Unavailable
from moonpool.ports.events import Event

_ROW_OVERHEAD = 40
"""About what SQLite adds to an event: row id, time, header."""
_DELETE_AT_ONCE = 2000
_OWN_CHECKPOINT = 8000
"""Pages of the write-ahead log (32 MB) at which an append moves them into the database itself. Whoever
commits an offset does so from 1000 on, SQLite's default: that is 4 ms of work, and who appends is a gateway
with clients that wait, who consumes has time."""


class Retention(NamedTuple):
    """What is kept of each topic. Only what every group has committed is ever deleted.

    `seconds` and `bytes` bound that part (each partition has its even share of `bytes`);
    `maximum_bytes` bounds the whole topic: beyond it appends are refused, since deleting would lose
    events. A group without members for `group_seconds` is forgotten, so that it holds none for ever.
    """

    seconds: float = 7 * 86_400.0
    bytes: int = 256 * 1024 * 1024
    maximum_bytes: int = 2 * 1024 * 1024 * 1024
    group_seconds: float = 7 * 86_400.0


class Append(NamedTuple):
    topic: str
    events: Sequence[Event]
    size: int


class Topic(NamedTuple):
    """`partitions` are row ids, in order of their numbers."""

    id: int
    partitions: tuple[int, ...]


def event_size(event: Event) -> int:
    """Bytes. Raises UnicodeEncodeError for text that is no UTF-8."""
    return len(event.id.encode()) + len(event.key.encode()) + len(event.value) + _ROW_OVERHEAD


def partition_of(key: str, partitions: int) -> int:
    """CRC-32, as librdkafka's `consistent` partitioner has it: the same key, the same number there."""
    return zlib.crc32(key.encode()) % partitions


class Store:
    """One process's access to the file. All methods raise sqlite3.Error."""

    def __init__(self, path: Path, *, partitions: int, retention: Retention) -> None:
        prepare(path)
        self._partitions = partitions
        self._retention = retention
        self._topics: dict[str, Topic] = {}
        self._durable = connect(path, synchronous="FULL")
        self._durable.execute(f"PRAGMA wal_autocheckpoint = {_OWN_CHECKPOINT}")
        self.connection = connect(path, synchronous="NORMAL")

    def close(self) -> None:
        self._durable.close()
        self.connection.close()

    def ping(self) -> None:
        self.connection.execute("SELECT count(*) FROM topics").fetchone()

    def topic(self, name: str, connection: sqlite3.Connection) -> Topic:
        """Made on first use, within the caller's transaction."""
        known = self._topics.get(name)
        if known is None:
            known = self._find(name, connection) or self._make(name, connection)
        return known

    def append(self, appends: Sequence[Append]) -> list[Unavailable | None]:
        """One transaction for all; a verdict for each: None, or why it was left out."""
        found: dict[str, Topic] = {}
        with writing(self._durable) as connection:
            verdicts = [self._append(connection, append, found) for append in appends]
        self._topics.update(found)  # only now is it certain that they exist
        return verdicts

    def lag(self, topic: str, group: str) -> int:
        found = self._find(topic, self.connection)
        if found is None:
            return 0
        # A partition begins at its oldest event; what retention took no longer waits for anyone.
        row = self.connection.execute(
            f"""SELECT coalesce(sum(next - max(first, coalesce(committed, first))), 0) FROM (
                SELECT p.next, s.committed, coalesce((SELECT min(place) FROM events
                    WHERE place >= p.id << {OFFSET_BITS} AND place < (p.id + 1) << {OFFSET_BITS})
                    - (p.id << {OFFSET_BITS}), p.next) AS first
                FROM partitions p LEFT JOIN groups g ON g.topic = p.topic AND g.name = ?
                LEFT JOIN shares s ON s.group_id = g.id AND s.partition = p.id WHERE p.topic = ?)""",  # noqa: S608
            (group, found.id),
        ).fetchone()
        return int(row[0])

    def retain(self) -> int:
        """Delete some of what retention no longer keeps; how many events. To be repeated until none."""
        self._forget_groups()
        deleted = 0
        rows = self.connection.execute(
            """SELECT p.id, t.partitions, coalesce((SELECT min(committed) FROM shares
               WHERE partition = p.id), p.next) FROM partitions p JOIN topics t ON t.id = p.topic"""
        ).fetchall()
        for partition, siblings, floor in rows:
            deleted += self._shorten(partition, floor, self._retention.bytes // siblings)
        if deleted:
            self.connection.execute("PRAGMA incremental_vacuum(1000)").fetchall()
        return deleted

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    def _find(self, name: str, connection: sqlite3.Connection) -> Topic | None:
        rows = connection.execute(
            """SELECT t.id, p.id FROM topics t JOIN partitions p ON p.topic = t.id
               WHERE t.name = ? ORDER BY p.number""",
            (name,),
        ).fetchall()
        return Topic(rows[0][0], tuple(row[1] for row in rows)) if rows else None

    def _make(self, name: str, connection: sqlite3.Connection) -> Topic:
        made = connection.execute(
            "INSERT INTO topics (name, partitions) VALUES (?, ?) RETURNING id", (name, self._partitions)
        ).fetchone()
        connection.executemany(
            "INSERT INTO partitions (topic, number) VALUES (?, ?)",
            [(made[0], number) for number in range(self._partitions)],
        )
        found = self._find(name, connection)
        assert found is not None
        return found

    def _append(
        self, connection: sqlite3.Connection, append: Append, found: dict[str, Topic]
    ) -> Unavailable | None:
        topic = found.get(append.topic) or self.topic(append.topic, connection)
        found[append.topic] = topic
        held = connection.execute("SELECT sum(bytes) FROM partitions WHERE topic = ?", (topic.id,)).fetchone()
        if held[0] + append.size > self._retention.maximum_bytes:
            return Unavailable(
                f"The event log's topic {append.topic} is full.",
                hint="A consumer is behind: see that the services that read it are running.",
                retry_after=30.0,
            )
        parts: dict[int, list[Event]] = {}
        for event in append.events:
            partition = topic.partitions[partition_of(event.key, len(topic.partitions))]
            parts.setdefault(partition, []).append(event)
        for partition, events in parts.items():
            self._insert(connection, partition, events)
        return None

    def _insert(self, connection: sqlite3.Connection, partition: int, events: list[Event]) -> None:
        size = sum(event_size(event) for event in events)
        following = connection.execute(
            "UPDATE partitions SET next = next + ?, bytes = bytes + ? WHERE id = ? RETURNING next",
            (len(events), size, partition),
        ).fetchone()[0]
        first = (partition << OFFSET_BITS) + following - len(events)
        connection.executemany(
            f"INSERT INTO events (place, at, id, key, value) VALUES (?, {NOW}, ?, ?, ?)",  # noqa: S608
            [(first + number, event.id, event.key, event.value) for number, event in enumerate(events)],
        )

    def _forget_groups(self) -> None:
        idle = f"""SELECT id FROM groups WHERE seen < {NOW} - ?
                   AND id NOT IN (SELECT group_id FROM members)"""  # noqa: S608
        patience = (self._retention.group_seconds,)
        if self.connection.execute(idle, patience).fetchone() is None:
            return
        with writing(self.connection) as connection:
            groups = connection.execute(idle, patience).fetchall()
            connection.executemany("DELETE FROM shares WHERE group_id = ?", groups)
            connection.executemany("DELETE FROM groups WHERE id = ?", groups)

    def _shorten(self, partition: int, floor: int, bound: int) -> int:
        """Delete from the front of one partition up to the offset `floor`; how many events."""
        if not self._expired(self.connection, partition, floor, bound)[0]:
            return 0
        with writing(self.connection) as connection:
            count, size, last = self._expired(connection, partition, floor, bound)
            connection.execute(
                "DELETE FROM events WHERE place >= ? AND place <= ?", (partition << OFFSET_BITS, last)
            )
            connection.execute("UPDATE partitions SET bytes = bytes - ? WHERE id = ?", (size, partition))
        return count

    def _expired(
        self, connection: sqlite3.Connection, partition: int, floor: int, bound: int
    ) -> tuple[int, int, int]:
        """Events at the front that are too old or too many: count, bytes, last place."""
        base = partition << OFFSET_BITS
        total = connection.execute("SELECT bytes FROM partitions WHERE id = ?", (partition,)).fetchone()[0]
        rows = connection.execute(
            f"""SELECT place, at < {NOW} - ?,
                length(CAST(id AS BLOB)) + length(CAST(key AS BLOB)) + length(value) + {_ROW_OVERHEAD}
                FROM events WHERE place >= ? AND place < ? ORDER BY place LIMIT {_DELETE_AT_ONCE}""",  # noqa: S608
            (self._retention.seconds, base, base + floor),
        )
        count, size, last = 0, 0, base - 1
        for place, old, own in rows:
            if not old and total - size <= bound:
                break
            count, size, last = count + 1, size + own, place
        return count, size, last
