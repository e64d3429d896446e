"""Follows the config server: what it has heard last holds, and lies on the disk for the next start.

    begin ──► connect ──► everything ──► change · change · beat …
                 ▲                            │ gap, silence, end
                 └──── back-off, jitter ◄─────┘

Nothing here stops the process: with the server away, everything goes on as it is.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.adapters.config.beginning import Beginning, from_document
from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.documents.diff import differences
from moonpool.contracts.documents.kinds import Kinds
from moonpool.contracts.documents.place import Document, spell
from moonpool.contracts.documents.platform import PLATFORM, restart_paths
from moonpool.contracts.documents.schema import known
from moonpool.contracts.documents.validation import DocumentFault, validate
from moonpool.contracts.documents.wire import Beat, Changed, Event, Kept, Snapshot, Stored, changed
from moonpool.core.errors import MoonpoolError, StartupError, UpstreamMalformed
from moonpool.http.sse import Decoder
from moonpool.ports.config import Kind, Standing

T = TypeVar("T")
Connect = Callable[[str], AsyncIterator[bytes]]
"""The chunks of the watch since EPOCH:SEQUENCE ("": from the beginning). Raises MoonpoolError."""
View = Callable[[PlatformConfig], PlatformConfig]
"""What this process makes of the platform's configuration: its release may have some of it otherwise."""
Keep = Callable[[Kept], None]
Subscriber = Callable[[str, Any, Any], None]

FIRST, MOST = 0.05, 1.0
"""Seconds between attempts to connect, doubling."""
EVENT_LIMIT = 64 * 1024 * 1024

_events = msgspec.json.Decoder(Event)


class Gap(Exception):
    """Something was missed: only everything at once helps."""


class ServerConfig:
    """Implements ports.config.ConfigSource[PlatformConfig]; `current` is there before `start`."""

    def __init__(
        self,
        *,
        instance: str,
        kinds: Kinds,
        beginning: Beginning,
        connect: Connect,
        keep: Keep,
        environ: Mapping[str, str],
        log: FilteringBoundLogger,
        view: View = lambda config: config,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._instance = instance
        self._kinds = kinds
        self._connect = connect
        self._keep = keep
        self._environ = dict(environ)
        self._log = log
        self._view = view
        self._chance = chance
        self._started = self._current = view(beginning.config)
        self._snapshot = beginning.snapshot
        self._origin = beginning.origin
        self._refused = beginning.refused
        self._version = _version(beginning.snapshot) if beginning.origin == "snapshot" else 0
        self._documents: dict[str, object] = {}
        self._subscribers: list[tuple[Kind[Any], Subscriber]] = []
        self._live = False
        self._complete = False
        self._behind = False
        self._task: asyncio.Task[None] | None = None
        for document in beginning.snapshot.documents:
            if document.name != PLATFORM.name:
                self._decode(document)

    async def start(self) -> None:
        if self._refused:
            self._log.error("configuration refused", origin=self._origin, reason=self._refused)
        self._task = asyncio.create_task(self._run(), name="documents")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def current(self) -> PlatformConfig:
        return self._current

    @property
    def standing(self) -> Standing:
        return Standing(live=self._live, version=self._version, origin=self._origin, refused=self._refused)

    @property
    def pending(self) -> tuple[str, ...]:
        """Places whose change waits for this process's next start."""
        return tuple(spell(path) for path in restart_paths(self._started, self._current))

    def find(self, kind: Kind[T], name: str) -> T | None:
        found = self._current if name == PLATFORM.name else self._documents.get(name)
        return found if isinstance(found, kind.shape) else None

    def stored(self, name: str) -> Stored | None:
        """The newest version of a document as it came: for whoever writes the next one."""
        return self._snapshot.find(name)

    def subscribe(self, kind: Kind[T], callback: Callable[[str, T | None, T], None]) -> None:
        self._subscribers.append((kind, callback))

    # ── following ──────────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        pause = FIRST
        while True:
            try:
                await self._follow()
                reason = "it ended the connection"
            except Gap:
                self._complete = False
                reason = "something was missed"
            except MoonpoolError as error:
                reason = error.detail
            except Exception as error:  # noqa: BLE001 - the task's boundary: following must go on
                self._log.error("cannot follow the documents", exc_info=error)
                reason = type(error).__name__
            if self._live:
                pause = FIRST
                self._live = False
                self._log.info("config server lost", reason=reason, version=self._version)
                self._remember()
            await asyncio.sleep(pause * (0.5 + 0.5 * self._chance()))
            pause = min(pause * 2, MOST)

    async def _follow(self) -> None:
        """Until the connection ends. Raises Gap, or MoonpoolError."""
        since = f"{self._snapshot.epoch}:{self._snapshot.sequence}" if self._complete else ""
        decoder = Decoder(EVENT_LIMIT)
        chunks = self._connect(since)
        try:
            async for chunk in chunks:
                for event in decoder.feed(chunk):
                    self._hear(event.data)
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    def _hear(self, data: str) -> None:
        try:
            event = _events.decode(data)
        except msgspec.DecodeError as error:
            raise UpstreamMalformed(f"the config server said something else: {error}") from None
        news = True
        match event:
            case Snapshot():
                self._take_all(event)
            case Changed():
                if event.sequence != self._snapshot.sequence + 1:
                    raise Gap
                self._snapshot = changed(self._snapshot, event.document)
                self._take(event.document)
            case Beat():
                here = (self._snapshot.epoch, self._snapshot.sequence)
                if not self._behind and here != (event.epoch, event.sequence):
                    raise Gap
                news = not self._live
        if not self._live:
            self._live = True
            self._log.info("following the config server", version=self._version)
        if news:
            self._remember()

    def _take_all(self, snapshot: Snapshot) -> None:
        """A server without its database has nothing newer than what this process has or started from."""
        self._behind = snapshot.stale and self._origin != "defaults"
        if self._behind:
            return
        self._snapshot = snapshot
        self._complete = not snapshot.stale
        for document in snapshot.documents:
            self._take(document)

    def _take(self, document: Stored) -> None:
        old: object = self._current if document.name == PLATFORM.name else self._documents.get(document.name)
        new = self._decode(document)
        if new is None or new == old:
            return
        for kind, callback in self._subscribers:
            if kind.covers(document.name):
                # Each for itself: one that fails must not keep the document from the others.
                asyncio.get_running_loop().call_soon(callback, document.name, old, new)

    def _decode(self, document: Stored) -> object | None:
        """The document in force now; None when it is refused, or of a kind that nobody here knows."""
        kind = self._kinds.find(document.name)
        if kind is None:
            return None
        self._tell_unknown(document, kind)
        try:
            if document.name == PLATFORM.name:
                self._current = self._view(from_document(document, self._environ))
                self._version, self._origin, self._refused = document.version, "server", ""
                return self._current
            content = known(dict(document.content), kind.shape)
            found: object = validate(Document(document.name, content), kind, document.name)
        except (StartupError, DocumentFault) as error:
            self._log.error(
                "document refused", document=document.name, version=document.version, reason=str(error)
            )
            if document.name == PLATFORM.name:
                self._refused = f"version {document.version}: {error}"
            return None
        self._documents[document.name] = found
        return found

    def _tell_unknown(self, document: Stored, kind: Kind[Any]) -> None:
        """What a newer package says there does not keep this one from what it does know."""
        content = dict(document.content)
        left_out = [spell(path) for path, _, _ in differences(content, known(content, kind.shape))]
        if left_out:
            self._log.warning(
                "settings of another version are left out",
                document=document.name,
                version=document.version,
                places=left_out[:10],
            )

    def _remember(self) -> None:
        self._keep(
            Kept(
                instance=self._instance,
                live=self._live,
                version=self._version,
                origin=self._origin,
                refused=self._refused,
                pending=self.pending,
                snapshot=self._snapshot,
            )
        )


def _version(snapshot: Snapshot) -> int:
    document = snapshot.find(PLATFORM.name)
    return document.version if document else 0
