"""Conversations and messages in the database: what routes read and write.

What the running answers write is in `leases.py`. Every query names the owner, so that no conversation
of another tenant or user can be reached.
"""

from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Row, and_, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.core.clock import Clock
from moonpool.core.errors import Conflict, NotFound
from moonpool.core.ids import new_id
from moonpool.core.principal import Principal
from moonpool.ports.database import Database
from moonpool.services.chat.leases import expire
from moonpool.services.chat.schema import Conversation, Message, NewConversation, NewMessage, Status
from moonpool.services.chat.tables import conversations, messages, to_conversation, to_message

HISTORY_LIMIT = 200
"""Most messages that are read for the model; the token budget cuts further."""
TITLE_LENGTH = 60

Order = Literal["asc", "desc"]


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A question that was stored, and the answer that is about to run. `history` is what came before."""

    conversation: Conversation
    history: list[Message]
    question: Message
    answer: Message


class Store:
    def __init__(self, database: Database, clock: Clock, *, instance: str) -> None:
        self.database = database
        self._clock = clock
        self._instance = instance

    async def create(self, principal: Principal, new: NewConversation) -> Conversation:
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

    async def delete(self, principal: Principal, id: str) -> None:
        """With all its messages; a running answer notices that its row is gone and stops."""
        async with self.database.transaction() as connection:
            await owned_conversation(connection, principal, id)
            await connection.execute(delete(messages).where(messages.c.conversation == id))
            await connection.execute(delete(conversations).where(conversations.c.id == id))

    async def message(self, principal: Principal, conversation: str, id: str) -> Message:
        async with self.database.snapshot() as connection:
            await owned_conversation(connection, principal, conversation)
            return to_message(await _message_row(connection, conversation, id))

    async def messages(
        self, principal: Principal, conversation: str, *, limit: int, after: str | None, order: Order
    ) -> tuple[list[Message], bool]:
        query = select(messages).where(messages.c.conversation == conversation)
        position = messages.c.position
        async with self.database.snapshot() as connection:
            await owned_conversation(connection, principal, conversation)
            if after is not None:
                last = (await _message_row(connection, conversation, after)).position
                query = query.where(position > last if order == "asc" else position < last)
            query = query.order_by(position.asc() if order == "asc" else position.desc())
            rows = (await connection.execute(query.limit(limit + 1))).all()
        return [to_message(row) for row in rows[:limit]], len(rows) > limit

    async def begin(self, principal: Principal, id: str, new: NewMessage, *, default_model: str) -> Begun:
        """Store the question and an empty, running answer.

        Raises NotFound, and Conflict while another answer of the conversation is running.
        """
        now = self._clock.time()
        try:
            async with self.database.transaction() as connection:
                return await self._begin(connection, principal, id, new, default_model, now)
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
    ) -> Begun:
        conversation = await owned_conversation(connection, principal, id)
        await expire(connection, now, conversation=id)
        mine = messages.c.conversation == id
        running = select(messages.c.id).where(mine, messages.c.status == Status.STREAMING)
        if (await connection.execute(running)).first() is not None:
            raise _busy()
        query = select(messages).where(mine).order_by(messages.c.position.desc()).limit(HISTORY_LIMIT)
        rows = (await connection.execute(query)).all()
        position = rows[0].position + 1 if rows else 0
        question = Message(
            id=new_id("msg", self._clock),
            conversation=id,
            parent=rows[0].id if rows else None,
            role="user",
            content=new.content,
            status=Status.COMPLETED,
            created_at=now,
            updated_at=now,
        )
        answer = Message(
            id=new_id("msg", self._clock),
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
        return Begun(conversation=conversation, history=history, question=question, answer=answer)

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


def owned(principal: Principal) -> ColumnElement[bool]:
    return and_(conversations.c.tenant == principal.tenant, conversations.c.owner == principal.user)


async def owned_conversation(connection: AsyncConnection, principal: Principal, id: str) -> Conversation:
    query = select(conversations).where(owned(principal), conversations.c.id == id)
    row = (await connection.execute(query)).first()
    if row is None:
        raise NotFound(f"There is no conversation '{id[:64]}'.", code="conversation_not_found")
    return to_conversation(row)


async def _message_row(connection: AsyncConnection, conversation: str, id: str) -> Row[Any]:
    query = select(messages).where(messages.c.conversation == conversation, messages.c.id == id)
    row = (await connection.execute(query)).first()
    if row is None:
        raise NotFound(f"There is no message '{id[:64]}' in this conversation.", code="message_not_found")
    return row


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
