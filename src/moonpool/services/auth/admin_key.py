"""The file that holds the admin's key: DIR/admin.key, readable by its owner only.

Beside it DIR/admin.key.recover may lie: whoever can write to the data folder asks with it for a new
admin key (see bootstrap). Files are replaced whole (write, fsync, rename, fsync of the folder): a reader
sees the old key or the new one, never a part.
"""

import os
from contextlib import suppress
from pathlib import Path

from moonpool.core.errors import StartupError
from moonpool.services.auth import keys

NAME = "admin.key"
REQUEST = "admin.key.recover"


class AdminKeyFile:
    """Small synchronous file work; done at start and on recovery only."""

    def __init__(self, data: Path) -> None:
        self.path = data / NAME
        self.request = data / REQUEST

    def read(self) -> keys.ApiKey | None:
        """The key in the file; None when there is no file or no key in it."""
        try:
            return keys.parse(self.path.read_text("ascii", "replace").strip())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _cannot(self.path, "read", error) from error

    def write(self, key: keys.ApiKey) -> None:
        temporary = self.path.with_name(f".{NAME}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(key.text + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise _cannot(self.path, "written", error) from error

    def protect(self) -> None:
        """Take a file that somebody else put there away from group and others, where we may."""
        with suppress(OSError):
            self.path.chmod(0o600)

    def recovery_requested(self) -> bool:
        return self.request.exists()

    def recovered(self) -> None:
        with suppress(OSError):
            self.request.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot(path: Path, done: str, error: OSError) -> StartupError:
    return StartupError(
        f"the admin's key cannot be {done}: {error.strerror or error}",
        where=str(path),
        hint="Make the data folder writable for this user and leave some space on the disk.",
    )
