"""The config server's tables. `migrations/` builds the same; a test compares the two."""

from sqlalchemy import BigInteger, Column, Double, Integer, MetaData, String, Table, Text

metadata = MetaData()

versions = Table(
    "versions",
    metadata,
    Column("name", String(256), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("content", Text, nullable=False),
    Column("author", String(256), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Double, nullable=False),
)
"""`content` is the document as JSON; the highest version is the one that holds."""

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("who", String(256), nullable=False),
    Column("key", String(64), nullable=False),
    Column("action", String(16), nullable=False),
    Column("name", String(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("request_id", String(64), nullable=False),
)
"""Who did what, and who was refused what. Rows are added and never changed; ids rise."""

state = Table(
    "config_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", String(64), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("file", String(64), nullable=False),
)
"""One row, id 1: which database this is, how many changes there were, which file was taken over last."""
