"""auth's tables. `migrations/` builds the same; a test compares the two.

A key's `budget` is nano-units; billing has it as well, and counts what is spent of it.
`users.email` and `users.password_hash` stay empty for accounts that only use keys.
"""

from sqlalchemy import JSON, BigInteger, Column, Double, ForeignKey, Index, Integer, MetaData, String, Table

from moonpool.asgi.once import done_table
from moonpool.asgi.outbox import outbox_table

metadata = MetaData()

organisations = Table(
    "organisations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("created_at", Double, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organisation_id", String(64), ForeignKey("organisations.id"), nullable=False),
    Column("role", String(16), nullable=False),
    Column("email", String(320), unique=True),
    Column("password_hash", String(255)),
    Column("created_at", Double, nullable=False),
    Column("disabled_at", Double),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("organisation_id", String(64), ForeignKey("organisations.id"), nullable=False),
    Column("user_id", String(64), ForeignKey("users.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("role", String(16), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", Integer),
    Column("concurrent", Integer),
    Column("created_at", Double, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("expires_at", Double),
    Column("last_used_at", Double),
    Column("revoked_at", Double),
    Column("budget", BigInteger),
    Column("budget_period", String(8)),
    Index("api_keys_by_organisation", "organisation_id", "id"),
)

installation = Table(
    "installation",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("organisation_id", String(64), ForeignKey("organisations.id"), nullable=False),
    Column("admin_user_id", String(64), ForeignKey("users.id"), nullable=False),
    Column("admin_key_id", String(64), ForeignKey("api_keys.id"), nullable=False),
    Column("created_at", Double, nullable=False),
)
"""One row, id 1: its primary key is what makes the first start happen once."""

outbox = outbox_table(metadata)

done_requests = done_table(metadata)
"""`result` is the id of the key that was created."""
