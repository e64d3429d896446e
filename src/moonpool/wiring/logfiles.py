"""The modules' log files: bounded in size, and what a fallen process said last.

Children append to their file for as long as they live, so it is rotated by copying and truncating, not
by renaming.
"""

import contextlib
import os
import shutil
from pathlib import Path

import msgspec

MAX_BYTES = 16 * 1024 * 1024
KEEP = 3
TAIL_BYTES = 16 * 1024


def rotate(path: Path, *, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> bool:
    """Move what `path` holds to `path.1` (and that to `.2`, …) when it has grown beyond `max_bytes`.

    Whether it did. Raises OSError when there is no room for the copy; nothing is lost then.
    """
    try:
        if path.stat().st_size <= max_bytes:
            return False
    except FileNotFoundError:
        return False
    draft = _numbered(path, 0)
    try:
        with path.open("rb") as source, draft.open("wb") as copy:
            os.fchmod(copy.fileno(), 0o600)
            shutil.copyfileobj(source, copy, 1024 * 1024)
            for number in range(keep - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    _numbered(path, number).replace(_numbered(path, number + 1))
            draft.replace(_numbered(path, 1))
            shutil.copyfileobj(source, copy)  # what was written meanwhile
            os.truncate(path, 0)
    finally:
        draft.unlink(missing_ok=True)
    return True


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def last_words(path: Path, since: int) -> str:
    """The last line written after byte `since`, as a person would tell it; "" when there is none."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - TAIL_BYTES, since if since <= end else 0))  # rotated: all of it is new
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        if line.strip():
            return _told(line.decode("utf-8", "replace").strip())[:300]
    return ""


class _Event(msgspec.Struct):
    event: str
    error: str = ""


def _told(line: str) -> str:
    with contextlib.suppress(msgspec.DecodeError):
        entry = msgspec.json.decode(line, type=_Event)
        return f"{entry.event}: {entry.error}" if entry.error else entry.event
    return line
