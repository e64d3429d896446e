"""Result codes of the real library."""

import sqlite3
from pathlib import Path

from moonpool.adapters.database.sqlite_errors import CANTOPEN, translate
from moonpool.core.errors import InternalError, Unavailable


def error_of(path: Path | str, statement: str = "SELECT 1", *, close: bool = False) -> sqlite3.Error:
    try:
        connection = sqlite3.connect(path)
        if close:
            connection.close()
        connection.execute(statement)
    except sqlite3.Error as error:
        return error
    raise AssertionError("no error")


def test_the_store_is_away(tmp_path: Path) -> None:
    error = error_of(tmp_path / "absent" / "t.db")
    assert error.sqlite_errorcode & 0xFF == CANTOPEN
    assert isinstance(translate(error, "the store"), Unavailable)


def test_a_closed_connection_is_unavailable() -> None:
    assert isinstance(translate(error_of(":memory:", close=True), "the store"), Unavailable)


def test_a_wrong_statement_is_ours_and_not_told_to_clients() -> None:
    error = translate(error_of(":memory:", "SELECT secret FROM nowhere"), "the store")
    assert isinstance(error, InternalError)
    assert error.message == "The store refused a statement."
