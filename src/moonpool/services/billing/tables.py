"""billing's tables. `migrations/` builds the same; a test compares the two. Tokens are integers."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

usage_events = Table(
    "usage_events",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("at", Double, nullable=False),
    Column("day", Integer, nullable=False),
    Column("tenant", String(200), nullable=False),
    Column("user", String(200), nullable=False),
    Column("key", String(200), nullable=False),
    Column("route", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("stored_at", Double, nullable=False),
    Index("usage_by_tenant", "tenant", "at"),
    Index("usage_by_user", "tenant", "user", "at"),
)
"""`id` is the event's own: its primary key is what counts a repeated event once. `day` counts days (UTC)
since 1970."""

rejected_events = Table(
    "rejected_events",
    metadata,
    Column("topic", String(200), primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("event_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("rejected_at", Double, nullable=False),
)
"""What could not be read as a usage event, as it came: for a person to look at. `line` counts from 0
within the log's event."""
