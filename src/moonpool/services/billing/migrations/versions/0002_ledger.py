"""Prices and costs of usage, and the double-entry ledger.

What was stored before was free. The release before this one goes on beside it: it writes no costs.

Revision ID: 0002
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_PRICES = ("price_prompt", "price_cached", "price_completion")


def upgrade() -> None:
    for name in _PRICES:
        op.add_column("usage_events", sa.Column(name, sa.BigInteger))
    op.add_column("usage_events", sa.Column("cost", sa.BigInteger, nullable=False, server_default="0"))
    _journal()
    op.create_table(
        "balances",
        sa.Column("tenant", sa.String(200), primary_key=True),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
    )
    op.create_index("balances_by_change", "balances", ["changed", "tenant"])
    op.create_table(
        "spenders",
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(200), primary_key=True),
        sa.Column("posted", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("spenders_by_age", "spenders", ["at"])
    clock = op.create_table(
        "ledger_clock",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.String(32), nullable=False),
    )
    op.bulk_insert(clock, [{"id": 1, "sequence": 0, "epoch": secrets.token_hex(8)}])


def _journal() -> None:
    op.create_table(
        "ledger_entries",
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("tenant", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("reference", sa.String(200)),
        sa.Column("author", sa.String(200), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_index("ledger_by_tenant", "ledger_entries", ["tenant", "sequence", "id"])
    op.create_index("ledger_by_reference", "ledger_entries", ["tenant", "kind", "reference"], unique=True)
    op.create_table(
        "ledger_lines",
        sa.Column("entry", sa.String(200), primary_key=True),
        sa.Column("account", sa.String(16), primary_key=True),
        sa.Column("debit", sa.BigInteger, nullable=False),
        sa.Column("credit", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "ledger_accounts",
        sa.Column("tenant", sa.String(200), primary_key=True),
        sa.Column("account", sa.String(16), primary_key=True),
        sa.Column("debits", sa.BigInteger, nullable=False),
        sa.Column("credits", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in (
        "ledger_clock",
        "spenders",
        "balances",
        "ledger_accounts",
        "ledger_lines",
        "ledger_entries",
    ):
        op.drop_table(table)
    with op.batch_alter_table("usage_events") as batch:
        for name in (*_PRICES, "cost"):
            batch.drop_column(name)
