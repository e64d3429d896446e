"""model's tables. `migrations/` builds the same; a test compares the two."""

from sqlalchemy import Column, Double, Integer, MetaData, String, Table, Text

from moonpool.asgi.outbox import outbox_table

metadata = MetaData()

models = Table(
    "models",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("source", String(16), primary_key=True),
    Column("document", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("updated_by", String(64), nullable=False),
)
"""`source` is the layer, "config" or "api"; `document` a contracts.catalogue.Model as JSON."""

state = Table(
    "catalogue_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)
"""One row, id 1."""

outbox = outbox_table(metadata)
