"""Exchanges that were had while this service was away: what the gateway's fallback answered is stored
afterwards (fallback.py), once however often it is sent."""

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.core.errors import Conflict
from moonpool.core.principal import Principal
from moonpool.ports.database import Database
from moonpool.services.chat.schema import Exchange, Status
from moonpool.services.chat.store import make_title, owned_conversation
from moonpool.services.chat.tables import conversations, encode, messages


async def add_exchange(database: Database, principal: Principal, conversation: str, new: Exchange) -> None:
    """Append both messages, unless they are there already.

    Raises NotFound when the caller has no such conversation, Conflict when another one has the ids.
    """
    try:
        async with database.transaction() as connection:
            known = await owned_conversation(connection, principal, conversation)
            if await _has(connection, conversation, new):
                return
            mine = messages.c.conversation == conversation
            query = select(messages.c.id, messages.c.position).where(mine)
            last = (await connection.execute(query.order_by(messages.c.position.desc()).limit(1))).first()
            position = 0 if last is None else last.position + 1
            await connection.execute(
                insert(messages), _rows(conversation, None if last is None else last.id, position, new)
            )
            change = update(conversations).where(conversations.c.id == conversation)
            newest = max(known.updated_at, new.answered_at)
            await connection.execute(
                change.values(updated_at=newest, title=known.title or make_title(new.content))
            )
    except IntegrityError:
        raise Conflict("Messages with these ids exist already.", code="message_exists") from None


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
