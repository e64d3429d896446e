"""With which configuration a process starts, before it has heard of any config server.

    a snapshot, and the file is the one that it knows (or none is given)     the snapshot
    otherwise                                                                the file, or the defaults
    the file cannot be used, but there is a snapshot                         the snapshot, said plainly

The config server follows the same rule (configserver/takeover.py), so that both come to the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from moonpool.adapters.config.load import load, overlaid
from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.documents.place import Document
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.documents.schema import known
from moonpool.contracts.documents.wire import Snapshot, Stored, digest, newest
from moonpool.core.errors import StartupError
from moonpool.ports.config import Kind


@dataclass(frozen=True)
class Beginning:
    """`snapshot` has the other documents, whatever the configuration came from. `refused` as in Standing."""

    config: PlatformConfig
    origin: str
    snapshot: Snapshot = field(default_factory=Snapshot)
    refused: str = ""


def begin(
    file: Path | None,
    environ: Mapping[str, str],
    kept: list[Snapshot],
    kind: Kind[PlatformConfig] = PLATFORM,
) -> Beginning:
    """`kind` is what a file is checked by. Raises StartupError for a broken file when there is nothing else
    to start from."""
    snapshot = newest(kept) or Snapshot()
    document = snapshot.find(PLATFORM.name)
    refused = ""
    if document is not None and (file is None or _digest(file) == snapshot.file):
        try:
            return Beginning(from_document(document, environ), "snapshot", snapshot)
        except StartupError as error:
            refused = str(error)
    try:
        return Beginning(load(file, environ, kind), "file" if file else "defaults", snapshot, refused)
    except StartupError as error:
        if document is None or refused:
            raise
        refused = str(error)
    try:
        return Beginning(from_document(document, environ), "snapshot", snapshot, refused)
    except StartupError:
        raise StartupError(refused) from None


def from_document(document: Stored, environ: Mapping[str, str]) -> PlatformConfig:
    """The configuration as this process has it: with its environment over it, and without what this package
    does not know: the config server that took it may be of a newer one. Raises StartupError."""
    content = known(msgspec.json.decode(msgspec.json.encode(document.content)), PlatformConfig)
    source = f"{document.name}, version {document.version}"
    return overlaid(Document(source, content), environ)


def _digest(file: Path) -> str:
    try:
        return digest(file.read_bytes())
    except OSError:
        return ""  # reading it as a configuration will say why
