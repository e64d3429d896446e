"""Budgets of keys, and what was spent of them.

The release before this one goes on beside it: what it posts is not counted in them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
compatible_from = "0003"


def upgrade() -> None:
    op.create_table(
        "key_budgets",
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("tenant", sa.String(200), nullable=False),
        sa.Column("user", sa.String(200), nullable=False),
        sa.Column("amount", sa.BigInteger),
        sa.Column("period", sa.String(8), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("spent", sa.BigInteger, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
    )
    op.create_index("key_budgets_by_change", "key_budgets", ["changed", "key"])
    op.create_index("key_budgets_by_tenant", "key_budgets", ["tenant", "key"])
    op.create_table(
        "key_spenders",
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("posted", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("key_spenders_by_age", "key_spenders", ["at"])


def downgrade() -> None:
    op.drop_table("key_spenders")
    op.drop_table("key_budgets")
