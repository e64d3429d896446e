"""Reading conversations and messages, in the transaction or snapshot of the connection that is given.

Every query names the owner, so that no conversation of another tenant or user can be reached.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.core.errors import NotFound
from moonpool.core.principal import Principal
from moonpool.services.chat.schema import Conversation
from moonpool.services.chat.tables import conversations, messages, to_conversation

HISTORY_LIMIT = 200
"""Most messages that are read for the model; the token budget cuts further."""


def owned(principal: Principal) -> ColumnElement[bool]:
    return and_(conversations.c.tenant == principal.tenant, conversations.c.owner == principal.user)


async def owned_conversation(connection: AsyncConnection, principal: Principal, id: str) -> Conversation:
    query = select(conversations).where(owned(principal), conversations.c.id == id)
    row = (await connection.execute(query)).first()
    if row is None:
        raise NotFound(f"There is no conversation '{id[:64]}'.", code="conversation_not_found")
    return to_conversation(row)


async def message_row(connection: AsyncConnection, conversation: str, id: str) -> Row[Any]:
    query = select(messages).where(messages.c.conversation == conversation, messages.c.id == id)
    row = (await connection.execute(query)).first()
    if row is None:
        raise NotFound(f"There is no message '{id[:64]}' in this conversation.", code="message_not_found")
    return row


async def latest(
    connection: AsyncConnection, conversation: str, *, before: int | None = None
) -> Sequence[Row[Any]]:
    """The newest messages, newest first; those in front of position `before`."""
    query = select(messages).where(messages.c.conversation == conversation)
    if before is not None:
        query = query.where(messages.c.position < before)
    return (await connection.execute(query.order_by(messages.c.position.desc()).limit(HISTORY_LIMIT))).all()
