"""What a process keeps of the documents on its disk (contracts.documents.wire.Kept), one file a process."""

import os
from pathlib import Path

import msgspec
import structlog

from moonpool.contracts.documents.wire import CONFIG, Kept, Snapshot

_log = structlog.get_logger(__name__)
PREFIX = "documents-"


class KeptFile:
    """`name` is the module's, or that of the place in which its processes follow each other."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{PREFIX}{name}.json"

    def read(self) -> Kept | None:
        """None when there is none, or none that can be read."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Kept)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            _log.warning("no last known documents", file=str(self.path), reason=str(error))
            return None

    def write(self, kept: Kept) -> None:
        """In one step, and on the disk when this returns. What cannot be written is logged."""
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                file.write(msgspec.json.encode(kept))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            _log.warning("documents not kept", file=str(self.path), reason=str(error))
            temporary.unlink(missing_ok=True)


def read_kept(folder: Path, *names: str) -> list[Snapshot]:
    """What the config server's own process has kept, where it is on this machine, then those of `names`."""
    found = [KeptFile(folder, name).read() for name in (CONFIG, *names)]
    return [kept.snapshot for kept in found if kept is not None]


def read_all(folder: Path) -> list[Kept]:
    """Of every process that ever kept something there."""
    names = sorted(path.stem.removeprefix(PREFIX) for path in folder.glob(f"{PREFIX}*.json"))
    return [kept for name in names if (kept := KeptFile(folder, name).read()) is not None]
