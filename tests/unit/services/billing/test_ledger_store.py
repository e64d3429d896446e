"""The ledger's statements in both dialects, and marks as they travel."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql, sqlite

from moonpool.services.billing import ledger_store
from moonpool.services.billing.ledger import Account, Book, Entry, Kind, credit
from moonpool.services.billing.ledger_store import Mark, parse_mark
from moonpool.services.billing.tables import ledger_entries


class Connection:
    """Keeps what it is told to execute."""

    def __init__(self, dialect: Any) -> None:
        self.dialect = dialect
        self.statements: list[str] = []

    async def execute(self, statement: Any, rows: Any = None) -> None:
        assert rows
        self.statements.append(str(statement.compile(dialect=self.dialect)))

    async def exec_driver_sql(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        assert all(statement.count("?") == len(row) for row in rows)
        self.statements.append(statement)


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()], ids=["sqlite", "postgresql"])
async def test_the_journal_is_only_added_to_and_sums_are_replaced(dialect: Any) -> None:
    connection, lines = Connection(dialect), credit(Kind.TOP_UP, 5)
    entry = Entry(id="crd_1", at=1.0, tenant="org", kind=Kind.TOP_UP, lines=lines)
    book = Book()
    book.post(lines)
    await ledger_store.save(connection, [entry], {"org": book}, 7)  # type: ignore[arg-type]
    assert [statement.split()[2] for statement in connection.statements] == [
        "ledger_entries",
        "ledger_lines",
        "ledger_accounts",
        "balances",
    ]
    assert all("CONFLICT" not in statement for statement in connection.statements[:2])
    assert "ON CONFLICT (tenant, account) DO UPDATE SET" in connection.statements[2]
    assert "ON CONFLICT (tenant) DO UPDATE SET" in connection.statements[3]


async def test_a_row_has_the_order_of_its_table(make_parts) -> None:
    parts = await make_parts("billing")
    entry = Entry(
        id="id",
        at=2.0,
        tenant="tenant",
        kind=Kind.GRANT,
        lines=credit(Kind.GRANT, 5),
        reference="reference",
        author="author",
        note="note",
    )
    book = Book(((Account.GRANTED, 1, 2),))
    async with parts.database.transaction() as connection:
        sequence = await ledger_store.begin(connection)
        await ledger_store.save(connection, [entry], {"tenant": book}, sequence)
    async with parts.database.snapshot() as connection:
        (found,) = await ledger_store.journal(connection, "tenant", None, None, 10)
    assert (found.sequence, sorted(found.entry.lines)) == (sequence, sorted(entry.lines))
    assert [getattr(found.entry, name) for name in ("id", "at", "kind", "reference", "author", "note")] == [
        "id",
        2.0,
        Kind.GRANT,
        "reference",
        "author",
        "note",
    ]
    assert len(ledger_store._row(entry, 1)) == len(ledger_entries.columns)


@given(st.text("0123456789abcdef", min_size=1), st.integers(0, 10**17), st.text())
def test_marks_travel(epoch: str, sequence: int, tenant: str) -> None:
    mark = Mark(epoch, sequence, tenant)
    assert parse_mark(str(mark)) == mark
    assert parse_mark(str(Mark(epoch))) == Mark(epoch)


@pytest.mark.parametrize("text", ["", "x", "x:y:z", "x:-2:", "x:" + "9" * 30 + ":", "x:²:"])
def test_what_is_no_mark_is_the_beginning(text: str) -> None:
    assert parse_mark(text) == Mark()
