"""Records of requests."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "requests",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("flags", sa.Text, nullable=False),
        sa.Column("duration_ms", sa.Double, nullable=False),
        sa.Column("first_byte_ms", sa.Double),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
    op.create_index("requests_recent", "requests", ["at", "id"])


def downgrade() -> None:
    op.drop_table("requests")
