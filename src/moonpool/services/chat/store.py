"""Conversations and messages in the database: what routes read and write.

What the running answers write is in `leases.py`. Every query names the owner, so that no conversation
of another tenant or user can be reached.
"""

from typing import Literal

from sqlalchemy import and_, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.asgi.once import Once
from moonpool.contracts.asked import Asked
from moonpool.core.clock import Clock
from moonpool.core.errors import Conflict
from moonpool.core.ids import new_id
from moonpool.core.principal import Principal
from moonpool.ports.database import Database
from moonpool.services.chat.begun import Again, Begun
from moonpool.services.chat.leases import expire
from moonpool.services.chat.queries import latest, message_row, owned, owned_conversation
from moonpool.services.chat.schema import Conversation, Message, NewConversation, NewMessage, Status
from moonpool.services.chat.tables import (
    conversations,
    done_requests,
    messages,
    to_conversation,
    to_message,
)

TITLE_LENGTH = 60

Order = Literal["asc", "desc"]


class Store:
    def __init__(self, database: Database, clock: Clock, *, instance: str) -> None:
        self.database = database
        self._clock = clock
        self._instance = instance
        self.once = Once(done_requests, database, clock)

    async def create(
        self, principal: Principal, new: NewConversation, asked: Asked | None = None
    ) -> Conversation:
        now = self._clock.time()
        conversation = Conversation(
            id=new_id("conv", self._clock),
            title=new.title,
            model=new.model,
            system_prompt=new.system_prompt,
            created_at=now,
            updated_at=now,
        )
        row = {name: getattr(conversation, name) for name in _COLUMNS}
        owner = {"tenant": principal.tenant, "owner": principal.user}
        async with self.database.transaction() as connection:
            before = await self.once.claim(connection, asked, conversation.id)
            if before is not None:
                return await owned_conversation(connection, principal, before)
            await connection.execute(insert(conversations).values(**row, **owner))
        return conversation

    async def conversation(self, principal: Principal, id: str) -> Conversation:
        async with self.database.snapshot() as connection:
            return await owned_conversation(connection, principal, id)

    async def conversations(
        self, principal: Principal, *, limit: int, after: str | None
    ) -> tuple[list[Conversation], bool]:
        """The most recently used first, and whether there are more."""
        query = select(conversations).where(owned(principal))
        async with self.database.snapshot() as connection:
            if after is not None:
                last = await owned_conversation(connection, principal, after)
                c = conversations.c
                older = and_(c.updated_at == last.updated_at, c.id < last.id)
                query = query.where(or_(c.updated_at < last.updated_at, older))
            query = query.order_by(conversations.c.updated_at.desc(), conversations.c.id.desc())
            rows = (await connection.execute(query.limit(limit + 1))).all()
        return [to_conversation(row) for row in rows[:limit]], len(rows) > limit

    async def rename(self, principal: Principal, id: str, title: str) -> Conversation:
        async with self.database.transaction() as connection:
            change = update(conversations).where(owned(principal), conversations.c.id == id)
            await connection.execute(change.values(title=title))
            return await owned_conversation(connection, principal, id)

    async def delete(self, principal: Principal, id: str, asked: Asked | None = None) -> None:
        """With all its messages; a running answer notices that its row is gone and stops."""
        async with self.database.transaction() as connection:
            if await self.once.claim(connection, asked, id) is not None:
                return
            await owned_conversation(connection, principal, id)
            await connection.execute(delete(messages).where(messages.c.conversation == id))
            await connection.execute(delete(conversations).where(conversations.c.id == id))

    async def message(self, principal: Principal, conversation: str, id: str) -> Message:
        async with self.database.snapshot() as connection:
            await owned_conversation(connection, principal, conversation)
            return to_message(await message_row(connection, conversation, id))

    async def messages(
        self, principal: Principal, conversation: str, *, limit: int, after: str | None, order: Order
    ) -> tuple[list[Message], bool]:
        query = select(messages).where(messages.c.conversation == conversation)
        position = messages.c.position
        async with self.database.snapshot() as connection:
            await owned_conversation(connection, principal, conversation)
            if after is not None:
                last = (await message_row(connection, conversation, after)).position
                query = query.where(position > last if order == "asc" else position < last)
            query = query.order_by(position.asc() if order == "asc" else position.desc())
            rows = (await connection.execute(query.limit(limit + 1))).all()
        return [to_message(row) for row in rows[:limit]], len(rows) > limit

    async def begin(
        self,
        principal: Principal,
        id: str,
        new: NewMessage,
        *,
        default_model: str,
        asked: Asked | None = None,
    ) -> Begun:
        """Store the question and an empty, running answer; once, however often the request arrives.

        Raises NotFound, and Conflict while another answer of the conversation is running.
        """
        now = self._clock.time()
        ids = new_id("msg", self._clock), new_id("msg", self._clock)
        try:
            async with self.database.transaction() as connection:
                before = await self.once.claim(connection, asked, " ".join(ids))
                if before is not None:
                    answers = Again(connection, unused=ids[1], instance=self._instance, now=now)
                    return await answers.begin(await owned_conversation(connection, principal, id), before)
                return await self._begin(connection, principal, id, new, default_model, now, ids)
        except IntegrityError:  # `messages_running`: another instance was faster
            raise _busy() from None

    async def _begin(
        self,
        connection: AsyncConnection,
        principal: Principal,
        id: str,
        new: NewMessage,
        default_model: str,
        now: float,
        ids: tuple[str, str],
    ) -> Begun:
        conversation = await owned_conversation(connection, principal, id)
        await expire(connection, now, conversation=id)
        mine = messages.c.conversation == id
        running = select(messages.c.id).where(mine, messages.c.status == Status.STREAMING)
        if (await connection.execute(running)).first() is not None:
            raise _busy()
        rows = await latest(connection, id)
        position = rows[0].position + 1 if rows else 0
        question = Message(
            id=ids[0],
            conversation=id,
            parent=rows[0].id if rows else None,
            role="user",
            content=new.content,
            status=Status.COMPLETED,
            created_at=now,
            updated_at=now,
        )
        answer = Message(
            id=ids[1],
            conversation=id,
            parent=question.id,
            role="assistant",
            content="",
            status=Status.STREAMING,
            model=new.model or conversation.model or default_model,
            created_at=now,
            updated_at=now,
        )
        await connection.execute(insert(messages).values(_row(question, position)))
        leased = {"instance": self._instance, "lease": now}
        await connection.execute(insert(messages).values(**_row(answer, position + 1), **leased))
        title = conversation.title or make_title(new.content)
        change = update(conversations).where(conversations.c.id == id)
        await connection.execute(change.values(updated_at=now, title=title))
        history = [to_message(row) for row in reversed(rows)]
        return Begun(
            conversation=conversation,
            history=history,
            question=question,
            answer=answer,
            metered_as=answer.id,
        )

    async def request_cancel(self, id: str) -> None:
        """Ask whoever runs the answer to stop it."""
        async with self.database.transaction() as connection:
            await connection.execute(update(messages).where(messages.c.id == id).values(cancel=True))


def make_title(content: str) -> str:
    """A conversation's first words, until its user gives it a name."""
    words = " ".join(content.split())
    if len(words) <= TITLE_LENGTH:
        return words
    return words[:TITLE_LENGTH].rsplit(" ", 1)[0].rstrip(" ,;:.") + "…"


_COLUMNS = ("id", "title", "model", "system_prompt", "created_at", "updated_at")


def _row(message: Message, position: int) -> dict[str, object]:
    names = ("id", "conversation", "parent", "role", "content", "model", "created_at", "updated_at")
    values = {name: getattr(message, name) for name in names}
    return {**values, "status": message.status.value, "position": position, "cancel": False}


def _busy() -> Conflict:
    return Conflict(
        "An answer of this conversation is still running.",
        code="answer_running",
        hint="Wait for it, join its stream, or cancel it.",
    )
