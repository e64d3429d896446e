"""Exchanges that were had while this service was away: what the gateway's fallback answered is stored
afterwards (fallback.py), once however often it is sent."""

from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.asgi.once import Once
from moonpool.core.errors import Conflict, Unprocessable
from moonpool.core.principal import Principal
from moonpool.services.chat.queries import owned_conversation
from moonpool.services.chat.schema import Exchange, Status
from moonpool.services.chat.store import Store, make_title
from moonpool.services.chat.tables import conversations, encode, messages


async def add_exchange(store: Store, principal: Principal, conversation: str, new: Exchange) -> None:
    """Append both messages, unless they are there already. Where the service had stored the question before
    it went away, they take its place: it was asked once, and this is the answer that its user has seen.

    Raises NotFound when the caller has no such conversation, Conflict when another one has the ids.
    """
    try:
        async with store.database.transaction() as connection:
            known = await owned_conversation(connection, principal, conversation)
            if await _has(connection, conversation, new):
                return
            asked = await _taken(connection, store.once, conversation, new)
            if asked is None:
                parent, position = await _end(connection, conversation)
            else:
                parent, position = asked.parent, asked.position
            await connection.execute(insert(messages), _rows(conversation, parent, position, new))
            change = update(conversations).where(conversations.c.id == conversation)
            newest = max(known.updated_at, new.answered_at)
            await connection.execute(
                change.values(updated_at=newest, title=known.title or make_title(new.content))
            )
    except IntegrityError:
        raise Conflict("Messages with these ids exist already.", code="message_exists") from None


async def _taken(
    connection: AsyncConnection, once: Once, conversation: str, new: Exchange
) -> Row[Any] | None:
    """The question as the service had stored it, which is gone now with its answer; None when it had not."""
    ids = f"{new.question_id} {new.answer_id}"
    try:
        before = await once.claim(connection, new.asked, ids)
    except Unprocessable:  # the client had used its name for something else: this has none
        return None
    if before is None:
        return None
    await once.replace(connection, new.asked, ids)
    question, _, answer = before.partition(" ")
    mine = messages.c.conversation == conversation
    found = select(messages).where(mine, messages.c.id == question)
    row: Row[Any] | None = (await connection.execute(found)).first()
    await connection.execute(delete(messages).where(mine, messages.c.id.in_([question, answer])))
    followers = update(messages).where(mine, messages.c.parent == answer)
    await connection.execute(followers.values(parent=new.answer_id))
    return row


async def _end(connection: AsyncConnection, conversation: str) -> tuple[str | None, int]:
    """The last message, and the position after it."""
    query = select(messages.c.id, messages.c.position).where(messages.c.conversation == conversation)
    last = (await connection.execute(query.order_by(messages.c.position.desc()).limit(1))).first()
    return (None, 0) if last is None else (last.id, last.position + 1)


async def _has(connection: AsyncConnection, conversation: str, new: Exchange) -> bool:
    query = select(messages.c.id).where(
        messages.c.conversation == conversation, messages.c.id == new.answer_id
    )
    return (await connection.execute(query)).first() is not None


def _rows(conversation: str, parent: str | None, position: int, new: Exchange) -> list[dict[str, object]]:
    """Both with all columns, as inserting several rows at once needs it."""
    empty = {"reasoning": None, "model": None, "finish_reason": None, "usage": None}
    shared = {"conversation": conversation, "cancel": False}
    question = {
        **shared,
        **empty,
        "id": new.question_id,
        "position": position,
        "parent": parent,
        "role": "user",
        "content": new.content,
        "status": Status.COMPLETED.value,
        "created_at": new.asked_at,
        "updated_at": new.asked_at,
    }
    answer = {
        **shared,
        "id": new.answer_id,
        "position": position + 1,
        "parent": new.question_id,
        "role": "assistant",
        "content": new.answer,
        "reasoning": new.reasoning,
        "status": new.status,
        "model": new.model,
        "finish_reason": new.finish_reason,
        "usage": encode(new.usage),
        "created_at": new.asked_at,
        "updated_at": new.answered_at,
    }
    return [question, answer]
