"""How documents travel from the config server to those who follow it, and lie on their disks.

`GET /internal/documents/watch` answers with server-sent events, each an `Event` as JSON:

    snapshot          everything there is: first of all, unless the follower has it already
    change · beat     each with the sequence that now holds; one that does not follow the last is a gap,
                      and whoever sees one connects again, for a snapshot
"""

from hashlib import sha256

import msgspec

CONFIG = "config"
"""The module's name."""
OPERATOR = "operator"
"""Who signs for a user of the machine."""
BEAT = 5.0
"""Seconds between two beats."""
SILENCE = 3 * BEAT
"""Seconds without a word after which the connection is taken for dead."""
WATCH = "/internal/documents/watch"


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a document. `at` is Unix seconds; `sequence` counts the changes of all documents."""

    name: str
    version: int
    content: dict[str, object]
    author: str
    reason: str = ""
    at: float = 0.0
    sequence: int = 0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, tag="snapshot"):
    """All documents at one moment.

    `epoch` is the database's: numbers of another one mean nothing. `file` is the digest of the file that was
    taken over last ("": none was). `stale`: the server itself has nothing better than its own snapshot.
    """

    epoch: str = ""
    sequence: int = 0
    file: str = ""
    stale: bool = False
    documents: tuple[Stored, ...] = ()

    def find(self, name: str) -> Stored | None:
        return next((one for one in self.documents if one.name == name), None)


class Changed(msgspec.Struct, frozen=True, kw_only=True, tag="change"):
    sequence: int
    document: Stored


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag="beat"):
    epoch: str
    sequence: int


Event = Snapshot | Changed | Beat


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a process has on its disk, for its own next start and for `status` and `doctor` to tell of.

    `pending` are the places of changes that wait for its next start; the rest as in ports.config.Standing.
    """

    instance: str
    live: bool = False
    version: int = 0
    origin: str = "defaults"
    refused: str = ""
    pending: tuple[str, ...] = ()
    snapshot: Snapshot = Snapshot()


def newest(kept: list[Snapshot]) -> Snapshot | None:
    """The snapshot to trust, those of the config server itself first; None when there is none."""
    found = [one for one in kept if one.epoch]
    if not found:
        return None
    return max((one for one in found if one.epoch == found[0].epoch), key=lambda one: one.sequence)


def changed(snapshot: Snapshot, document: Stored) -> Snapshot:
    """`snapshot` with a new version of one document."""
    others = tuple(one for one in snapshot.documents if one.name != document.name)
    return msgspec.structs.replace(snapshot, sequence=document.sequence, documents=(*others, document))


def digest(raw: bytes) -> str:
    """What `Snapshot.file` says of a file."""
    return sha256(raw).hexdigest()
