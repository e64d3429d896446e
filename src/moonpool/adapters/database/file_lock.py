"""Locks between processes that end with the process that holds them."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moonpool.core.errors import StartupError

_POLL = 0.02


@contextmanager
def locked(path: Path, *, timeout: float) -> Iterator[None]:
    """Hold `path` (made when absent, never removed: removing it would let two holders in).

    Blocks the calling thread up to `timeout` seconds. Raises StartupError when the lock is not to be
    had, or its folder cannot be written.
    """
    descriptor = _open(path)
    try:
        _acquire(descriptor, path, fcntl.LOCK_EX, time.monotonic() + timeout)
        yield
    finally:
        os.close(descriptor)


def shared(path: Path, *, timeout: float) -> int:
    """Hold `path` together with others; closing the descriptor lets go. Raises as `locked` does."""
    descriptor = _open(path)
    try:
        _acquire(descriptor, path, fcntl.LOCK_SH, time.monotonic() + timeout)
    except StartupError:
        os.close(descriptor)
        raise
    return descriptor


def try_exclusive(path: Path) -> int | None:
    """Hold `path` alone, at once or not at all (None); closing the descriptor lets go."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartupError(
            f"the lock file cannot be opened: {error.strerror}",
            where=str(path),
            hint="Make the folder writable for this user, or choose another with --data.",
        ) from error


def _acquire(descriptor: int, path: Path, kind: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise StartupError(
                    "another process has held the lock too long",
                    where=str(path),
                    hint="Wait for its migration to end, or stop that process.",
                ) from error
            time.sleep(_POLL)
        else:
            return
