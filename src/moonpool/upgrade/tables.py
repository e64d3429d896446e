"""The manager's tables. `migrations/` builds the same; a test compares the two. Times are Unix seconds."""

from sqlalchemy import Column, Double, Index, Integer, LargeBinary, MetaData, String, Table, Text

from moonpool.asgi.outbox import SEQUENCE

metadata = MetaData()

upgrades = Table(
    "upgrades",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("service", String(64), nullable=False),
    Column("active", String(64), nullable=True, unique=True),
    Column("version", Integer, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("course", LargeBinary, nullable=False),
    Column("plan", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("started_by", String(200), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double, nullable=True),
    Index("upgrades_of_service", "service", "id"),
)
"""`active` is the service as long as the upgrade runs, then null: being unique, it lets a service have one
upgrade at a time, whoever asks. `version` grows with every kept state: who writes must know the last one."""

evidence = Table(
    "evidence",
    metadata,
    Column("upgrade", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
    Column("at", Double, nullable=False),
)
"""What was measured of an upgrade so far, with the place in the reports up to which it was counted."""

events = Table(
    "events",
    metadata,
    Column("sequence", SEQUENCE, primary_key=True, autoincrement=True),
    Column("upgrade", String(64), nullable=False),
    Column("service", String(64), nullable=False),
    Column("at", Double, nullable=False),
    Column("who", String(200), nullable=False),
    Column("what", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("evidence", LargeBinary, nullable=False),
    Index("events_of_upgrade", "upgrade", "sequence"),
    Index("events_of_service", "service", "sequence"),
)
"""Numbered as they were kept: several may be of one millisecond."""
