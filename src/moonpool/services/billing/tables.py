"""billing's tables. `migrations/` builds the same; a test compares the two. Tokens are integers."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from moonpool.asgi.once import done_table

metadata = MetaData()

usage_events = Table(
    "usage_events",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("at", Double, nullable=False),
    Column("day", Integer, nullable=False),
    Column("tenant", String(200), nullable=False),
    Column("user", String(200), nullable=False),
    Column("key", String(200), nullable=False),
    Column("route", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("stored_at", Double, nullable=False),
    Column("price_prompt", BigInteger),
    Column("price_cached", BigInteger),
    Column("price_completion", BigInteger),
    Column("cost", BigInteger, nullable=False, server_default="0"),
    Index("usage_by_tenant", "tenant", "at"),
    Index("usage_by_user", "tenant", "user", "at"),
)
"""`id` is the event's own: its primary key is what counts a repeated event once. `day` counts days (UTC)
since 1970. Prices are pico-units a token, NULL where it was free; `cost` is nano-units."""

rejected_events = Table(
    "rejected_events",
    metadata,
    Column("topic", String(200), primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("event_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("rejected_at", Double, nullable=False),
)
"""What could not be read as a usage event, as it came: for a person to look at. `line` counts from 0
within the log's event."""

ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("tenant", String(200), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("reference", String(200)),
    Column("author", String(200), nullable=False),
    Column("note", Text, nullable=False),
    Index("ledger_by_tenant", "tenant", "sequence", "id"),
    Index("ledger_by_reference", "tenant", "kind", "reference", unique=True),
)
"""The journal: rows are only ever added. `sequence` is that of the transaction that wrote it."""

ledger_lines = Table(
    "ledger_lines",
    metadata,
    Column("entry", String(200), primary_key=True),
    Column("account", String(16), primary_key=True),
    Column("debit", BigInteger, nullable=False),
    Column("credit", BigInteger, nullable=False),
)

ledger_accounts = Table(
    "ledger_accounts",
    metadata,
    Column("tenant", String(200), primary_key=True),
    Column("account", String(16), primary_key=True),
    Column("debits", BigInteger, nullable=False),
    Column("credits", BigInteger, nullable=False),
)
"""The sums of all lines, kept so that a balance is one look-up."""

balances = Table(
    "balances",
    metadata,
    Column("tenant", String(200), primary_key=True),
    Column("amount", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Index("balances_by_change", "changed", "tenant"),
)
"""What is published; `changed` is the sequence of the last change."""

spenders = Table(
    "spenders",
    metadata,
    Column("source", String(64), primary_key=True),
    Column("tenant", String(200), primary_key=True),
    Column("posted", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Index("spenders_by_age", "at"),
)
"""What of each spender's charges is in the balances."""

ledger_clock = Table(
    "ledger_clock",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("epoch", String(32), nullable=False),
)
"""One row. Whoever posts raises its sequence first, and so waits for whoever is posting."""

done_requests = done_table(metadata)
"""`result` is the id of the credit's entry."""

key_budgets = Table(
    "key_budgets",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("tenant", String(200), nullable=False),
    Column("user", String(200), nullable=False),
    Column("amount", BigInteger),
    Column("period", String(8), nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Index("key_budgets_by_change", "changed", "key"),
    Index("key_budgets_by_tenant", "tenant", "key"),
)
"""What auth has granted (`amount` NULL: taken away, so that followers hear of it), and what was spent of it
in the period that began at `since` (Unix seconds). `changed` is the sequence of the last change."""

key_spenders = Table(
    "key_spenders",
    metadata,
    Column("source", String(64), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("since", BigInteger, nullable=False),
    Column("posted", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Index("key_spenders_by_age", "at"),
)
"""What of each spender's charges is in `spent` of the same period."""
