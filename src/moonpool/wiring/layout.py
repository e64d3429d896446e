"""Where everything lies in a platform's data folder. Paths only; `create` is the one that touches the disk.

DIR/                 0700, everything below is the owner's alone
  moonpool.lock      held (flock) by the supervisor; its text is the supervisor's pid
  admin.key          the admin's API key, written by the auth service at its first start
  db/                one database a service
  run/               sockets, topology.json, instances.lock (held by every child)
  logs/              one file a module, and supervisor.log
  secrets/           root.key
  spool/ objects/    what waits to be delivered; files
  releases/          what was added beside the first release, and what should run (wiring/shelf.py)
"""

import errno
import os
from pathlib import Path

from moonpool.core.errors import StartupError

DATA_ENV = "MOONPOOL_DATA"
FOLDERS = ("db", "run", "logs", "secrets", "spool", "objects", "releases")


def default_data() -> Path:
    """`$MOONPOOL_DATA`, else `~/.moonpool`."""
    named = os.environ.get(DATA_ENV, "")
    return Path(named) if named else Path.home() / ".moonpool"


class Layout:
    """The paths of one platform. `root` is made absolute, so that children may change folder."""

    __slots__ = ("root",)

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root.expanduser()))

    @property
    def lock(self) -> Path:
        return self.root / "moonpool.lock"

    @property
    def admin_key(self) -> Path:
        return self.root / "admin.key"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def topology(self) -> Path:
        return self.run / "topology.json"

    @property
    def instances_lock(self) -> Path:
        return self.run / "instances.lock"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def root_key(self) -> Path:
        return self.root / "secrets" / "root.key"

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    @property
    def control(self) -> Path:
        """Where the supervisor is told what should run, and the word it wants to hear."""
        return self.run / "control.json"

    def log(self, module: str) -> Path:
        return self.logs / f"{module}.log"

    def create(self) -> None:
        """Make the folders and try to write. Raises StartupError when that is not possible."""
        try:
            for folder in (self.root, *(self.root / name for name in FOLDERS)):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.root.chmod(0o700)
            self._try_writing()
        except OSError as error:
            raise self._unusable(error) from error

    def _try_writing(self) -> None:
        """A full disk lets empty files be made: write a block."""
        trial = self.run / f".trial-{os.getpid()}"
        try:
            trial.write_bytes(bytes(4096))
        finally:
            trial.unlink(missing_ok=True)

    def _unusable(self, error: OSError) -> StartupError:
        where = str(error.filename or self.root)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StartupError(
                "the disk is full",
                where=where,
                hint="Free some space, or choose another disk with --data DIR.",
            )
        reason = (error.strerror or str(error)).lower()
        return StartupError(
            f"the data folder cannot be used: {reason}",
            where=where,
            hint="Choose a folder you own with --data DIR, or mend its permissions.",
        )
