"""The domain of the config server: documents in versions, and how they change.

    change ──► judged ──► one transaction (compare, add, audit) ──► memory ──► own snapshot ──► watchers

One change at a time. What is asked for comes from memory, so that readers do not depend on the database;
while that is away, changes are refused, and what there is comes from the server's own snapshot.
"""

import asyncio
from collections.abc import Callable

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.asgi.background import Backoff
from moonpool.configserver import store
from moonpool.configserver.faults import Author, StaleMatch, VersionConflict
from moonpool.configserver.hub import Hub
from moonpool.configserver.judging import Content, Judge, Judgement
from moonpool.configserver.opening import Opening
from moonpool.configserver.records import Records
from moonpool.configserver.takeover import GivenFile
from moonpool.configserver.views import AuditEntry, Outcome, PatchDocument, Rollback
from moonpool.contracts.documents.validation import DocumentFault
from moonpool.contracts.documents.wire import Changed, Snapshot, Stored, changed
from moonpool.core.clock import Clock
from moonpool.core.errors import (
    BadRequest,
    MoonpoolError,
    NotFound,
    PermissionDenied,
    StartupError,
    Unavailable,
)
from moonpool.ports.database import Database

Keep = Callable[[Snapshot], None]
"""Puts a snapshot where the next start finds it; must not raise."""


class Expected(msgspec.Struct, frozen=True):
    """The version that a change is made for. `header`: it came as If-Match, and is answered as such."""

    version: int | None = None
    header: bool = False


class ConfigService:
    def __init__(
        self,
        *,
        database: Database,
        judge: Judge,
        hub: Hub,
        clock: Clock,
        log: FilteringBoundLogger,
        given: GivenFile | None = None,
        kept: Snapshot | None = None,
        keep: Keep = lambda snapshot: None,
    ) -> None:
        self._database = database
        self._judge = judge
        self._hub = hub
        self._log = log
        self._kept = kept
        self._keep = keep
        self._records = Records(clock)
        self._opening = Opening(
            judge=judge, records=self._records, clock=clock, log=log, given=given, kept=kept
        )
        self._one = asyncio.Lock()
        self._away: MoonpoolError | None = Unavailable("the config server is starting", retry_after=1.0)
        self._opened = False
        self._began = Snapshot()

    # ── life ───────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Serve what there is. Raises StartupError when the first document of all is broken."""
        if self._kept is not None and self._kept.epoch:
            self._hub.snapshot = msgspec.structs.replace(self._kept, stale=True)
        await self._connect()

    async def recover(self) -> None:
        """Until the database is there: try again, with growing pauses."""
        backoff = Backoff(base=1.0, ceiling=15.0)
        while self._away is not None:
            await asyncio.sleep(backoff.next())
            await self._connect()
        await asyncio.Event().wait()

    async def stop(self) -> None:
        await self._database.stop()

    async def check(self) -> None:
        """For readiness: raises while changes cannot be made, or the given file cannot be used."""
        if self._away is not None:
            raise Unavailable(f"serving the last known documents: {self._away.message}")
        await self._database.ping()
        given = self._opening.given
        if given is not None and given.fault:
            raise Unavailable(f"{given.path} is not in use: {given.fault}")

    async def _connect(self) -> None:
        try:
            if not self._opened:
                await self._database.start()
                self._opened = True
            async with self._one, self._database.transaction() as connection:
                snapshot = await self._opening.open(connection)
        except MoonpoolError as error:
            given = self._opening.given
            if isinstance(error, StartupError) and given is not None and error.where == given.path:
                raise
            self._away = error
            self._log.error("documents cannot be changed", reason=str(error))
            return
        self._away = None
        self._began = snapshot if not self._began.epoch else self._began
        self._keep(snapshot)
        self._hub.publish(snapshot, snapshot)

    # ── reading ────────────────────────────────────────────────────────────────────────────────────

    @property
    def snapshot(self) -> Snapshot:
        return self._hub.snapshot

    async def find(self, name: str, version: int | None = None) -> Stored:
        """Raises NotFound; Unavailable for an older version while the database is away."""
        self._judge.kind(name)
        present = self.snapshot.find(name)
        if present is not None and version in (None, present.version):
            return present
        if version is None or present is None:
            raise _missing(name, version)
        self.require()
        async with self._database.snapshot() as connection:
            found = await store.find(connection, name, version)
        if found is None:
            raise _missing(name, version)
        return found

    async def history(self, name: str, before: int | None, limit: int) -> list[Stored]:
        self._judge.kind(name)
        self.require()
        async with self._database.snapshot() as connection:
            return await store.history(connection, name, before, limit)

    async def audited(self, name: str, before: int | None, limit: int) -> list[AuditEntry]:
        self.require()
        async with self._database.snapshot() as connection:
            return list(await store.audited(connection, name, before, limit))

    # ── changing ───────────────────────────────────────────────────────────────────────────────────

    async def put(
        self,
        name: str,
        content: Content,
        expected: Expected,
        author: Author,
        reason: str,
        action: str = "put",
    ) -> Outcome:
        """Raises DocumentFault, VersionConflict or StaleMatch; nothing is changed then."""
        return await self._change(name, lambda _: content, expected, author, reason, action)

    async def patch(self, name: str, wish: PatchDocument, expected: Expected, author: Author) -> Outcome:
        def edit(old: Stored | None) -> Content:
            return self._judge.edited(name, old.content if old else {}, wish.set, wish.unset)

        return await self._change(name, edit, expected, author, wish.reason, "patch")

    async def rollback(self, name: str, wish: Rollback, expected: Expected, author: Author) -> Outcome:
        """Raises NotFound when there is no such version (any more)."""
        target = await self.find(name, wish.to)
        reason = wish.reason or f"back to version {wish.to}"
        return await self.put(name, target.content, expected, author, reason, "rollback")

    def judge(self, name: str, content: Content) -> Judgement:
        """What a document would change; nothing is changed. Raises DocumentFault."""
        present = self.snapshot.find(name)
        return self._judged(name, present, content)

    def _judged(self, name: str, old: Stored | None, content: Content) -> Judgement:
        started = self._began.find(name)
        return self._judge.judge(
            name,
            old.content if old else None,
            content,
            started.content if started else None,
            self._content_of,
        )

    def _content_of(self, name: str) -> Content | None:
        found = self.snapshot.find(name)
        return None if found is None else found.content

    async def _change(
        self,
        name: str,
        make: Callable[[Stored | None], Content],
        expected: Expected,
        author: Author,
        reason: str,
        action: str,
    ) -> Outcome:
        kind = self._judge.kind(name)
        if author.service and author.service not in kind.writers:
            raise BadRequest(f"{author.service} does not write {name}", code="not_a_writer", param="name")
        if kind.local and not (author.local or author.service):
            raise PermissionDenied(
                f"{name} says which programs run on the machine: only its users may change it",
                code="not_local",
                hint="Use `moonpool` there, as the user who runs the platform, without --url.",
            )
        self.require()
        async with self._one:
            old = self.snapshot.find(name)
            present = old.version if old else 0
            _compare(name, present, expected)
            try:
                content = make(old)
                judgement = self._judged(name, old, content)
            except DocumentFault as fault:
                await self._note_refusal(author, name, present, reason, fault.message)
                raise
            if old is not None and old.content == content:
                return _outcome(name, present, judgement, was_changed=False)
            async with self._database.transaction() as connection:
                _compare(name, await store.present_version(connection, name), expected, present)
                document = await self._records.add(
                    connection, name, present + 1, content, author, action, reason
                )
            snapshot = changed(self.snapshot, document)
            self._keep(snapshot)
            self._hub.publish(snapshot, Changed(sequence=document.sequence, document=document))
        self._log.info(
            "document changed", document=name, version=document.version, by=author.who, action=action
        )
        return _outcome(name, document.version, judgement, was_changed=True)

    async def _note_refusal(self, author: Author, name: str, version: int, reason: str, detail: str) -> None:
        """What was refused is worth knowing, but not worth failing for."""
        try:
            async with self._database.transaction() as connection:
                await self._records.note(connection, author, "refused", name, version, reason, detail)
        except Unavailable as error:
            self._log.warning("refusal not noted", document=name, reason=error.message)

    def require(self) -> None:
        """Raises Unavailable while the database is away."""
        if self._away is not None:
            raise Unavailable(
                f"The config server's database is away: {self._away.message}",
                hint="Everything goes on with the documents that were known last.",
                retry_after=5.0,
            )


def _compare(name: str, present: int, expected: Expected, seen: int | None = None) -> None:
    """`seen` is what the change was judged against."""
    if expected.version not in (None, present):
        error = StaleMatch if expected.header else VersionConflict
        raise error(name, present, expected.version or 0)
    if seen is not None and seen != present:  # another process wrote to the same database
        raise VersionConflict(name, present, seen)


def _outcome(name: str, version: int, judgement: Judgement, *, was_changed: bool) -> Outcome:
    return Outcome(
        name=name,
        version=version,
        changed=was_changed,
        changes=judgement.changes,
        takes_effect="restart" if judgement.restart else "now",
        restart=judgement.restart,
        shadowed=judgement.shadowed,
        lost=judgement.lost,
    )


def _missing(name: str, version: int | None) -> NotFound:
    which = f"no version {version} of {name!r}" if version is not None else f"no document {name!r} yet"
    return NotFound(f"There is {which}.", code="unknown_version", param="name", hint="See its history.")
