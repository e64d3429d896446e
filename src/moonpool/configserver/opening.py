"""What the config server does with its database first: an empty one gets its first documents, and the file
given to `up` becomes a new version when it says something new (takeover.py has the rule)."""

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from moonpool.configserver import store
from moonpool.configserver.faults import Author
from moonpool.configserver.judging import Judge
from moonpool.configserver.records import Records
from moonpool.configserver.takeover import DEFAULTS, FILE, RESTORE, GivenFile, is_news
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.documents.validation import DocumentFault
from moonpool.contracts.documents.wire import Snapshot
from moonpool.core.clock import Clock
from moonpool.core.errors import StartupError
from moonpool.core.ids import new_id


class Opening:
    """`kept` is the server's own snapshot, of this database or of one that was lost."""

    def __init__(
        self,
        *,
        judge: Judge,
        records: Records,
        clock: Clock,
        log: FilteringBoundLogger,
        given: GivenFile | None,
        kept: Snapshot | None,
    ) -> None:
        self._judge = judge
        self._records = records
        self._clock = clock
        self._log = log
        self._kept = kept if kept is not None and kept.epoch else None
        self.given = given
        """With the fault that was found in it."""

    async def open(self, connection: AsyncConnection) -> Snapshot:
        """Raises StartupError when the given file cannot be the first document."""
        known = await store.read_state(connection)
        if known is None:
            await self._begin(connection)
            known = await store.read_state(connection)
        assert known is not None
        await self._take_file(connection, known.file)
        found = await store.everything(connection)
        assert found is not None
        return found

    async def _begin(self, connection: AsyncConnection) -> None:
        """What the snapshot still has comes back: the database may have been lost."""
        kept = self._kept
        await store.begin_state(connection, new_id("epoch", self._clock), kept.sequence if kept else 0)
        if kept is None:
            return
        author, reason = Author(RESTORE), "the database was empty"
        for document in kept.documents:
            await store.add(connection, document)
            await self._records.note(connection, author, "restore", document.name, document.version, reason)
        await store.note_file(connection, kept.file)
        self._log.warning("documents restored from the snapshot", documents=len(kept.documents))

    async def _take_file(self, connection: AsyncConnection, taken: str) -> None:
        present = await store.present_version(connection, PLATFORM.name)
        given = self.given
        if given is not None and is_news(given, taken):
            if self._usable(given, first=present == 0):
                await self._take(connection, present, given)
        elif present == 0:
            author, reason = Author(DEFAULTS), "no file was given"
            await self._records.add(connection, PLATFORM.name, 1, {}, author, "first", reason)

    def _usable(self, given: GivenFile, *, first: bool) -> bool:
        """Raises StartupError when nothing else could be the first document."""
        if not given.fault:
            try:
                self._judge.judge(PLATFORM.name, None, given.content)
            except DocumentFault as fault:
                given = msgspec.structs.replace(given, fault=fault.message, hint=fault.hint or "")
                self.given = given
        if not given.fault:
            return True
        if first:
            raise StartupError(given.fault, where=given.path, hint=given.hint or None)
        self._log.error("the file is not taken over", file=given.path, reason=given.fault, hint=given.hint)
        return False

    async def _take(self, connection: AsyncConnection, present: int, given: GivenFile) -> None:
        before = await store.find(connection, PLATFORM.name, present)
        if before is None or before.content != given.content:
            action, verb = ("file", "changed") if present else ("first", "was given")
            await self._records.add(
                connection,
                PLATFORM.name,
                present + 1,
                given.content,
                Author(FILE),
                action,
                f"{given.path} {verb}",
            )
            self._log.info("the file is taken over", file=given.path, version=present + 1)
        await store.note_file(connection, given.digest)
