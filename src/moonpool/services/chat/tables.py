"""The chat service's tables (made by `migrations/`) and how their rows become structs.

`messages_running`, a unique index over the rows whose status is `streaming`, is what keeps a
conversation at one running answer, whatever instances do at the same time.
"""

from typing import Any

import msgspec
from sqlalchemy import (
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Row,
    Table,
    Text,
    false,
    text,
)

from moonpool.asgi.once import done_table
from moonpool.contracts.usage import Usage
from moonpool.services.chat.schema import Conversation, ErrorDetail, Message, Status

metadata = MetaData()

conversations = Table(
    "conversations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("title", Text),
    Column("model", Text),
    Column("system_prompt", Text),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index("conversations_recent", "tenant", "owner", "updated_at", "id"),
)

_RUNNING = text("status = 'streaming'")

messages = Table(
    "messages",
    metadata,
    Column("id", Text, primary_key=True),
    Column("conversation", Text, ForeignKey("conversations.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("parent", Text),
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("reasoning", Text),
    Column("status", Text, nullable=False),
    Column("model", Text),
    Column("finish_reason", Text),
    Column("error", Text),
    Column("usage", Text),
    # Of a running answer: who writes it, the Unix second of its last sign of life, and whether another
    # instance was asked to stop it.
    Column("instance", Text),
    Column("lease", Double),
    Column("cancel", Boolean, nullable=False, server_default=false()),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index("messages_order", "conversation", "position", unique=True),
    Index("messages_running", "conversation", unique=True, sqlite_where=_RUNNING, postgresql_where=_RUNNING),
)

done_requests = done_table(metadata)
"""`result` of a new message: the question's and the answer's ids, with a blank between."""


def to_conversation(row: Row[Any]) -> Conversation:
    return Conversation(
        id=row.id,
        title=row.title,
        model=row.model,
        system_prompt=row.system_prompt,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def to_message(row: Row[Any]) -> Message:
    return Message(
        id=row.id,
        conversation=row.conversation,
        parent=row.parent,
        role=row.role,
        content=row.content,
        reasoning=row.reasoning,
        status=Status(row.status),
        model=row.model,
        finish_reason=row.finish_reason,
        error=msgspec.json.decode(row.error, type=ErrorDetail) if row.error else None,
        usage=msgspec.json.decode(row.usage, type=Usage) if row.usage else None,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def encode(value: msgspec.Struct | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
