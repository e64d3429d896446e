"""user's table. `migrations/` builds the same; a test compares the two."""

from sqlalchemy import Column, Double, Index, MetaData, String, Table

metadata = MetaData()

profiles = Table(
    "profiles",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("organisation_id", String(64), nullable=False),
    Column("display_name", String(100), nullable=False),
    Column("locale", String(35), nullable=False),
    Column("theme", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index("profiles_by_organisation", "organisation_id", "user_id"),
)
