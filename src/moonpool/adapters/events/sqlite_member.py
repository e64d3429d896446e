"""One member of a consumer group: which partitions it owns, what it has read, what it has done.

    join ──► owns its share ──► poll ──► commit ──► …           heartbeat keeps the lease
                 ▲                                                   │ lease ran out
                 └────────────── rejoin, what was polled is forgotten ┘

The partitions are dealt out in turn to the live members in order of joining. Nobody takes a partition
that a live member owns: that one hands it over when it has nothing polled and uncommitted there, so a
rebalance repeats no event. A group's `generation` grows with every change, so that the others look
again at their next poll. Time is the database's own.

Synchronous; all calls come from the thread that owns the store.
"""

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from moonpool.adapters.events.sqlite_schema import NOW, OFFSET_BITS, writing
from moonpool.adapters.events.sqlite_store import Store
from moonpool.ports.events import Delivered, Event


class Member:
    """All methods raise sqlite3.Error. `lease` in seconds."""

    def __init__(self, store: Store, topic: str, group: str, *, from_end: bool, lease: float) -> None:
        self._store = store
        self._topic_name = topic
        self._group_name = group
        self._from_end = from_end
        self._lease = lease
        self._id = uuid.uuid4().hex
        self._topic = -1
        self._group = -1
        self._numbers: dict[int, int] = {}
        """Row id of every partition → its number."""
        self._generation = -1
        self._positions: dict[int, int] = {}
        """Owned partition → the next offset to read."""
        self._committed: dict[int, int] = {}
        self._leaving: set[int] = set()
        """Owned, due to another member, and not yet done with."""
        self._turn = 0
        self._before: tuple[int, dict[int, int]] = (0, {})
        """The number of the last poll, and the positions before it."""

    def join(self) -> None:
        with self._changing() as connection:
            topic = self._store.topic(self._topic_name, connection)
            self._topic = topic.id
            self._numbers = {partition: number for number, partition in enumerate(topic.partitions)}
            self._open_group(connection)
            self._rebalance(connection)

    def heartbeat(self) -> None:
        """Renew the lease, and look who is still there."""
        with self._changing() as connection:
            self._open_group(connection)
            self._rebalance(connection)

    def leave(self) -> None:
        with writing(self._store.connection) as connection:
            connection.execute("DELETE FROM members WHERE id = ?", (self._id,))
            connection.execute("UPDATE shares SET owner = NULL WHERE owner = ?", (self._id,))
            self._tell(connection)
        self._positions.clear()
        self._committed.clear()

    def poll(self, limit: int, number: int) -> list[Delivered]:
        """`number` names this poll for `rewind`."""
        connection = self._store.connection
        row = connection.execute("SELECT generation FROM groups WHERE id = ?", (self._group,)).fetchone()
        if row is None or row[0] != self._generation:
            self.heartbeat()
        self._before = number, dict(self._positions)
        following = dict(
            connection.execute("SELECT id, next FROM partitions WHERE topic = ?", (self._topic,)).fetchall()
        )
        waiting = [
            partition
            for partition, position in self._positions.items()
            if position < following[partition] and partition not in self._leaving
        ]
        delivered: list[Delivered] = []
        self._turn += 1  # begin with another partition each time, so that a busy one starves none
        for index in range(len(waiting)):
            if len(delivered) >= limit:
                break
            partition = waiting[(self._turn + index) % len(waiting)]
            delivered += self._read(connection, partition, limit - len(delivered))
        return delivered

    def rewind(self, number: int) -> None:
        """What poll `number` gave reached nobody; nothing to do when it never ran."""
        if self._before[0] == number:
            self._positions.update((p, at) for p, at in self._before[1].items() if p in self._positions)

    def commit(self) -> None:
        """Only where this member still is the owner; offsets never move back."""
        done = {p: at for p, at in self._positions.items() if at > self._committed[p]}
        if not done:
            return
        with self._changing() as connection:
            connection.executemany(
                """UPDATE shares SET committed = ?
                   WHERE group_id = ? AND partition = ? AND owner = ? AND committed < ?""",
                [(at, self._group, partition, self._id, at) for partition, at in done.items()],
            )
            if self._release(connection, self._leaving):
                self._tell(connection)
        self._committed.update((p, at) for p, at in done.items() if p in self._positions)

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        try:
            with writing(self._store.connection) as connection:
                yield connection
        except BaseException:
            self._generation = -1  # rolled back there, but not here: the next poll looks again
            raise

    def _read(self, connection: sqlite3.Connection, partition: int, limit: int) -> list[Delivered]:
        base = partition << OFFSET_BITS
        rows = connection.execute(
            """SELECT place, at, id, key, value FROM events
               WHERE place >= ? AND place < ? ORDER BY place LIMIT ?""",
            (base + self._positions[partition], (partition + 1) << OFFSET_BITS, limit),
        ).fetchall()
        if rows:
            self._positions[partition] = rows[-1][0] - base + 1
        number = self._numbers[partition]
        return [
            Delivered(self._topic_name, number, place - base, at, Event(id, key, value))
            for place, at, id, key, value in rows
        ]

    def _open_group(self, connection: sqlite3.Connection) -> None:
        """Find the group; make it when it is new, or was forgotten meanwhile."""
        row = connection.execute(
            f"""INSERT INTO groups (topic, name, seen) VALUES (?, ?, {NOW})
                ON CONFLICT (topic, name) DO UPDATE SET seen = excluded.seen RETURNING id""",  # noqa: S608
            (self._topic, self._group_name),
        ).fetchone()
        self._group = row[0]
        start = "next" if self._from_end else "0"
        connection.execute(
            f"""INSERT INTO shares (group_id, partition, committed)
                SELECT ?, id, {start} FROM partitions WHERE topic = ? ON CONFLICT DO NOTHING""",  # noqa: S608
            (self._group, self._topic),
        )

    def _rebalance(self, connection: sqlite3.Connection) -> None:
        changed = self._expire_others(connection)
        changed |= self._renew(connection)
        self._agree(connection)
        rows = connection.execute(
            "SELECT partition, owner FROM shares WHERE group_id = ?", (self._group,)
        ).fetchall()
        owners = {row[0]: row[1] for row in rows}
        mine = self._share(connection, sorted(owners, key=lambda partition: self._numbers[partition]))
        self._forget({p for p in self._positions if owners[p] != self._id})
        self._leaving = set(self._positions) - mine
        changed |= self._release(connection, self._leaving)
        self._take(connection, {p for p in mine if owners[p] is None})
        if changed:
            self._tell(connection)
        self._generation = connection.execute(
            "SELECT generation FROM groups WHERE id = ?", (self._group,)
        ).fetchone()[0]

    def _expire_others(self, connection: sqlite3.Connection) -> bool:
        """Also a lease that ends later than a lease lasts: the machine's clock was set back."""
        gone = connection.execute(
            f"""DELETE FROM members WHERE group_id = ? AND id != ?
                AND (expires < {NOW} OR expires > {NOW} + 2 * lease)""",  # noqa: S608
            (self._group, self._id),
        ).rowcount
        orphaned = connection.execute(
            """UPDATE shares SET owner = NULL WHERE group_id = ? AND owner IS NOT NULL
               AND owner NOT IN (SELECT id FROM members WHERE group_id = ?)""",
            (self._group, self._group),
        ).rowcount
        return bool(gone or orphaned)

    def _renew(self, connection: sqlite3.Connection) -> bool:
        """Whether this member is new, or was taken for dead and comes back."""
        renewed = connection.execute(
            f"UPDATE members SET expires = {NOW} + ? WHERE id = ? AND group_id = ?",  # noqa: S608
            (self._lease, self._id, self._group),
        ).rowcount
        if renewed:
            return False
        connection.execute(
            f"INSERT INTO members (id, group_id, expires, lease) VALUES (?, ?, {NOW} + ?, ?)",  # noqa: S608
            (self._id, self._group, self._lease, self._lease),
        )
        self._forget(set(self._positions))
        return True

    def _agree(self, connection: sqlite3.Connection) -> None:
        """Give up what is ours by the database only: left from a change that was half undone."""
        held = ",".join(str(partition) for partition in self._positions)
        connection.execute(
            f"""UPDATE shares SET owner = NULL WHERE group_id = ? AND owner = ?
                AND partition NOT IN ({held})""",  # noqa: S608 - row ids
            (self._group, self._id),
        )

    def _share(self, connection: sqlite3.Connection, partitions: list[int]) -> set[int]:
        rows = connection.execute(
            "SELECT id FROM members WHERE group_id = ? ORDER BY number", (self._group,)
        ).fetchall()
        members = [row[0] for row in rows]
        return set(partitions[members.index(self._id) :: len(members)])

    def _release(self, connection: sqlite3.Connection, partitions: set[int]) -> bool:
        """Hand over those of which everything polled is committed, by what the database says."""
        released = {
            partition
            for partition in partitions
            if connection.execute(
                """UPDATE shares SET owner = NULL
                   WHERE group_id = ? AND partition = ? AND owner = ? AND committed >= ?""",
                (self._group, partition, self._id, self._outstanding_from(partition)),
            ).rowcount
        }
        self._forget(released)
        self._leaving = self._leaving - released
        return bool(released)

    def _outstanding_from(self, partition: int) -> int:
        """What must be committed before the partition may go: all that was polled, if anything was."""
        position = self._positions[partition]
        return position if position > self._committed[partition] else 0

    def _take(self, connection: sqlite3.Connection, partitions: set[int]) -> None:
        for partition in partitions:
            committed = connection.execute(
                """UPDATE shares SET owner = ? WHERE group_id = ? AND partition = ?
                   AND owner IS NULL RETURNING committed""",
                (self._id, self._group, partition),
            ).fetchone()
            if committed is not None:
                self._positions[partition] = self._committed[partition] = committed[0]

    def _forget(self, partitions: set[int]) -> None:
        for partition in partitions:
            self._positions.pop(partition, None)
            self._committed.pop(partition, None)

    def _tell(self, connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE groups SET generation = generation + 1 WHERE id = ?", (self._group,))
