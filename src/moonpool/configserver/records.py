"""A version and who made it are written together: in the transaction of the connection that is given."""

from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.configserver import store
from moonpool.configserver.faults import Author
from moonpool.configserver.views import AuditEntry
from moonpool.contracts.documents.wire import Stored
from moonpool.core.clock import Clock


class Records:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def add(
        self,
        connection: AsyncConnection,
        name: str,
        version: int,
        content: dict[str, object],
        author: Author,
        action: str,
        reason: str,
    ) -> Stored:
        """The new version, with the next sequence number."""
        document = Stored(
            name=name,
            version=version,
            content=content,
            author=author.who,
            reason=reason,
            at=self._clock.time(),
            sequence=await store.raise_sequence(connection),
        )
        await store.add(connection, document)
        await self.note(connection, author, action, name, version, reason)
        return document

    async def note(
        self,
        connection: AsyncConnection,
        author: Author,
        action: str,
        name: str,
        version: int,
        reason: str,
        detail: str = "",
    ) -> None:
        entry = AuditEntry(
            at=self._clock.time(),
            who=author.who,
            key=author.key,
            action=action,
            name=name,
            version=version,
            reason=reason,
            detail=detail,
            request_id=author.request_id,
        )
        await store.note(connection, entry)
