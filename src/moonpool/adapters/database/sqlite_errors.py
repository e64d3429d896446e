"""SQLite's result codes, told as the platform's errors.

Whatever says that the store cannot answer now (busy, full, I/O) is Unavailable; what says that a
statement was wrong is a fault of ours; a value that no column can hold is the request's. Constraint
violations are not for here: they are answers.
"""

import sqlite3

from moonpool.core.errors import BadRequest, InternalError, MoonpoolError, Unavailable

# https://sqlite.org/rescode.html, primary result codes
BUSY, LOCKED, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB = 5, 6, 8, 10, 11, 13, 14, 26

_AWAY = {
    BUSY: ("is busy: another process has held its lock too long", None, 1.0),
    LOCKED: ("is busy: another process has held its lock too long", None, 1.0),
    READONLY: ("cannot be written", "Make the data folder writable.", 30.0),
    IOERR: ("cannot be read or written: the disk reported an error", "Check the disk.", 30.0),
    CORRUPT: ("is damaged", "Restore it from a backup.", 30.0),
    FULL: ("cannot grow: the disk is full", "Free disk space; nothing was half-written.", 30.0),
    CANTOPEN: ("cannot be opened", "Check that the data folder exists and is writable.", 30.0),
    NOTADB: ("is damaged: the file is not a SQLite database", "Restore it from a backup.", 30.0),
}

UNSTORABLE = (OverflowError, UnicodeEncodeError)
"""What the driver raises for a whole number beyond 64 bits, and for half a surrogate pair."""

_CLOSED = ("no active connection", "connection closed", "cannot operate on a closed database.")


def primary_code(error: BaseException) -> int:
    """The primary result code; 0 for an error that did not come from the library itself."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def translate(error: sqlite3.Error, subject: str, *, writable: bool = True) -> MoonpoolError:
    """`error` as Unavailable or InternalError about `subject` ("the chat database").

    `writable` False: the connection refuses writes by design, so one was a mistake of the caller.
    """
    code = primary_code(error)
    if str(error).lower() in _CLOSED:
        return Unavailable(f"{_capital(subject)} is closed.", retry_after=1.0)
    if code in _AWAY and (writable or code != READONLY):
        what, hint, wait = _AWAY[code]
        return Unavailable(f"{_capital(subject)} {what}.", hint=hint, retry_after=wait)
    return InternalError(f"{_capital(subject)} refused a statement.")


def unstorable() -> BadRequest:
    """Only a request brings such values, and its sender can mend them. Where the field is known it is named
    before: this is so that none that was forgotten counts as a failure of the service."""
    return BadRequest(
        "A value is out of range.",
        code="invalid_value",
        hint="Whole numbers have at most 64 bits, and texts are Unicode.",
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
