"""Which requests were done, so that none is done twice.

The release before this one goes on beside it: what it does is not written down.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
compatible_from = "0001"


def upgrade() -> None:
    op.create_table(
        "done_requests",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("result", sa.String(200), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("done_requests_by_age", "done_requests", ["at"])


def downgrade() -> None:
    op.drop_table("done_requests")
