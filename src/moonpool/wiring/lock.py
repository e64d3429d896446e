"""One supervisor a data folder, and how everyone else knows whether there is one.

The lock is the kernel's (flock), so it is gone with its holder however that ended; the pid in the file
only names the holder. Children hold a second lock together (`run/instances.lock`, shared by inheriting
its descriptor): while it is held, processes of an earlier supervisor still drain.
"""

import contextlib
import fcntl
import os
import time
from pathlib import Path

from moonpool.core.errors import StartupError
from moonpool.wiring.layout import Layout

ACQUIRE_SECONDS = 0.3
"""`holder` takes the lock for an instant when it is free: a starter must not take that for a platform."""


class PlatformLock:
    """`acquire` until `release` or the end of the process."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._fd: int | None = None

    def acquire(self) -> None:
        """Raises StartupError naming the holder when the platform already runs."""
        fd = _open(self._layout.lock)
        if not _try_for(fd, ACQUIRE_SECONDS):
            os.close(fd)
            pid = _read_pid(self._layout.lock)
            raise StartupError(
                f"a platform already runs on this data (pid {pid or 'unknown'})",
                where=str(self._layout.root),
                hint="See it with `moonpool status`, stop it with `moonpool down`, "
                "or start another one with --data OTHER_DIR --port OTHER_PORT.",
            )
        self._fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.ftruncate(fd, 0)
            os.close(fd)


def _try_for(fd: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def holder(layout: Layout) -> int | None:
    """The supervisor's pid, or None when no platform runs on this data. 0: it runs and is not named yet."""
    try:
        fd = os.open(layout.lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(layout.lock)
    finally:
        os.close(fd)
    return None


class InstancesLock:
    """Shared by all children of one supervisor: `fd` goes to each of them."""

    def __init__(self, layout: Layout) -> None:
        self.fd = _open(layout.instances_lock)

    def try_exclusive(self) -> bool:
        """Whether no process of an earlier supervisor is left."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.fd)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartupError(
            f"cannot be opened: {(error.strerror or str(error)).lower()}",
            where=str(path),
            hint="Choose a folder you own with --data DIR.",
        ) from error


def _read_pid(path: Path) -> int:
    try:
        return int(path.read_text().strip() or 0)
    except (OSError, ValueError):
        return 0
