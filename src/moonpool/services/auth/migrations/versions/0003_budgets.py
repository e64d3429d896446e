"""Budgets of keys.

The release before this one goes on beside it: keys that it creates have none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
compatible_from = "0002"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("budget", sa.BigInteger))
    op.add_column("api_keys", sa.Column("budget_period", sa.String(8)))


def downgrade() -> None:
    with op.batch_alter_table("api_keys") as batch:
        batch.drop_column("budget_period")
        batch.drop_column("budget")
