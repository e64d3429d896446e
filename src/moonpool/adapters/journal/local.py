"""A journal in a local file: appended with one system call, published to the event log behind it.

    DIR/spool/<topic>-<instance>-<n>.journal     one line a record:
    O id json      opened            P id count       progress            C id json   closed

An event's value is the JSON of many closed records, a line each; its own id names segment and place.
A write that returned survives `kill -9` (it is in the kernel's page cache); a power cut once it was
published, a tenth of a second later. Published segments are dropped; what was published and not yet
dropped when the process died is published again, and consumers recognise the ids. A living process holds
a lock on its segment; those whose lock is free have no owner any more and are taken over by whoever looks
first.
"""

import asyncio
import fcntl
import os
import time
from collections import deque
from pathlib import Path

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.core.errors import MoonpoolError
from moonpool.ports.events import Event, EventLog

INTERVAL = 0.1
"""Seconds between two rounds of publishing."""
SEGMENT = 8 * 1024 * 1024
"""Bytes after which a segment is closed and, once published, dropped."""
BATCH = 256 * 1024
"""Bytes of records published as one event: a row for thousands of requests costs less than one for each."""
ORPHANS_EVERY = 5.0
"""Seconds between two looks for journals without an owner."""
HELD = 100_000
"""Records held in memory while the disk takes none."""


class LocalJournal:
    """One topic's journal of one process. All methods are called in the event loop."""

    def __init__(
        self, folder: Path, topic: str, instance: str, events: EventLog, log: FilteringBoundLogger
    ) -> None:
        self._folder = folder
        self._topic = topic
        self._instance = instance
        self._events = events
        self._log = log
        self._fd = -1
        self._path = Path()
        self._number = 0
        self._size = 0
        self._published = 0
        self._streams: dict[str, bytes] = {}
        self._marks: dict[str, bytes] = {}
        self._held: deque[bytes] = deque()
        self._batches = 0
        self._task: asyncio.Task[None] | None = None
        self._next_orphans = 0.0

    # ── the port ───────────────────────────────────────────────────────────────────────────────────

    def open(self, id: str, value: bytes) -> None:
        line = b"O %b %b\n" % (id.encode(), value)
        self._streams[id] = line
        self._write(line)

    def progress(self, id: str, count: int) -> None:
        line = self._marks[id] = b"P %b %d\n" % (id.encode(), count)
        if not self._held:  # while the disk takes nothing, there is room for records only
            self._write(line)

    def close(self, id: str, value: bytes) -> None:
        self._streams.pop(id, None)
        self._marks.pop(id, None)
        self._write(b"C %b %b\n" % (id.encode(), value))

    @property
    def healthy(self) -> bool:
        return not self._held

    @property
    def waiting_bytes(self) -> int:
        """Written, and not in the event log yet."""
        return self._size - self._published

    # ── its life ───────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._new_segment()
        self._task = asyncio.create_task(self._run(), name=f"journal-{self._topic}")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        try:
            await self._publish()
        except (MoonpoolError, OSError) as error:
            self._log.warning("journal left for the next start", path=str(self._path), reason=str(error))
        if self._held:
            self._log.error("records are lost with this process", count=len(self._held))
        if self._fd >= 0:
            if self._published == self._size and not self._held and not self._streams:
                self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1

    # ── writing ────────────────────────────────────────────────────────────────────────────────────

    def _write(self, line: bytes) -> None:
        if self._held:
            if len(self._held) < HELD:
                self._held.append(line)
            else:
                self._log.error("the journal holds no more: a record is lost", record=repr(line))
            return
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            self._log.error("journal cannot be written; records are held", reason=str(error))
            self._held.append(line)
            return
        self._size += written
        if written < len(line):  # the disk became full within the line
            self._held.append(line[written:])

    def _write_held(self) -> None:
        while self._held:
            line = self._held[0]
            try:
                written = os.write(self._fd, line)
            except OSError:
                return
            self._size += written
            if written < len(line):
                self._held[0] = line[written:]
                return
            self._held.popleft()

    def _new_segment(self) -> None:
        """A file that nobody else has: one of that name that is there belongs to a dead process."""
        while True:
            self._number += 1
            path = self._folder / f"{self._topic}-{self._instance}-{self._number}.journal"
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            if _locked(fd) and os.fstat(fd).st_nlink:
                break
            os.close(fd)  # taken for an orphan between the two calls
        self._path, self._fd = path, fd
        self._size = self._published = 0

    def _next_segment(self) -> None:
        """Leave a published segment; what is still open goes on in the new one."""
        old_fd, old_path = self._fd, self._path
        self._new_segment()
        for line in (*self._streams.values(), *self._marks.values()):
            self._write(line)
        old_path.unlink(missing_ok=True)
        os.close(old_fd)

    # ── publishing ─────────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        pause = INTERVAL
        while True:
            await asyncio.sleep(pause)
            try:
                await self._publish()
                await self._adopt_orphans()
                pause = INTERVAL
            except MoonpoolError as error:
                self._log.warning("usage waits in the journal", bytes=self._size, reason=error.message)
                pause = min(pause * 2, 5.0)
            except OSError as error:
                self._log.error("journal cannot be published", path=str(self._path), reason=str(error))
                pause = min(pause * 2, 5.0)

    async def _publish(self) -> None:
        """What there is now: what comes meanwhile is for the next round, or a busy process would publish
        request by request without a pause. All of it only where the segment is to be left."""
        self._write_held()
        end = self._size
        while self._published < (self._size if self._size > SEGMENT else end):
            data = os.pread(self._fd, BATCH, self._published)
            whole = data.rfind(b"\n") + 1
            if whole == 0:
                return
            self._batches += 1  # not the place: after a truncation that comes again
            await self._append(f"{self._path.stem}-{self._batches}", _closed(data[:whole]))
            self._published += whole
        if self._size > SEGMENT and not self._held:
            self._next_segment()
        elif self._size and not self._streams and self._published == self._size and not self._held:
            os.ftruncate(self._fd, 0)
            self._size = self._published = 0

    async def _append(self, id: str, records: list[bytes]) -> None:
        if records:
            await self._events.append(self._topic, [Event(id, self._instance, b"\n".join(records))])

    async def _adopt_orphans(self) -> None:
        now = time.monotonic()
        if now < self._next_orphans:
            return
        self._next_orphans = now + ORPHANS_EVERY
        for path in self._folder.glob(f"{self._topic}-*.journal"):
            if path != self._path:
                await self._adopt(path)

    async def _adopt(self, path: Path) -> None:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if not _locked(fd):
                return  # its owner lives
            if os.fstat(fd).st_nlink == 0:
                return  # published and dropped while we were opening it
            records = self._recovered(_read(fd))
            for first in range(0, len(records), 500):
                await self._append(f"{path.stem}-recovered-{first}", records[first : first + 500])
            os.unlink(path)
            self._log.info("took over a journal", path=path.name, records=len(records))
        finally:
            os.close(fd)

    # ── reading ────────────────────────────────────────────────────────────────────────────────────

    def _recovered(self, data: bytes) -> list[bytes]:
        """All that a dead process closed, and what it had open, with the progress it had noted.

        A last line without its end was cut by the death: its record had not returned to anyone. What
        a power cut left unreadable is told and passed over: the rest must not wait for it.
        """
        opened: dict[bytes, bytes] = {}
        counts: dict[bytes, int] = {}
        closed: dict[bytes, bytes] = {}
        for line in data.split(b"\n")[:-1]:
            kind, _, tail = line.partition(b" ")
            id, _, rest = tail.partition(b" ")
            if kind == b"P" and rest.isdigit():
                counts[id] = int(rest)
            elif kind in _RECORDS and _is_object(rest):
                (opened if kind == b"O" else closed)[id] = rest
            else:
                self._log.error("unreadable line in a journal", line=repr(line[:80]))
        broken = [_with_count(rest, counts.get(id, 0)) for id, rest in opened.items() if id not in closed]
        return [*closed.values(), *broken]


_RECORDS = frozenset({b"O", b"C"})


def _closed(lines: bytes) -> list[bytes]:
    return [line[2:].partition(b" ")[2] for line in lines.split(b"\n") if line.startswith(b"C ")]


def _is_object(value: bytes) -> bool:
    try:
        msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _read(fd: int) -> bytes:
    data = bytearray()
    while part := os.pread(fd, BATCH, len(data)):
        data += part
    return bytes(data)


def _locked(fd: int) -> bool:
    """Whether the file is ours now; the lock lasts until `fd` is closed."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _with_count(value: bytes, count: int) -> bytes:
    """The opened record, with the events counted so far as its completion tokens."""
    record = msgspec.json.decode(value, type=dict[str, object])
    usage = record.get("usage")
    record["usage"] = {**(usage if isinstance(usage, dict) else {}), "completion_tokens": count}
    encoded: bytes = msgspec.json.encode(record)
    return encoded
