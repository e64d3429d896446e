"""What the config server takes and answers. Times are Unix seconds.

Also what the command line reads: nothing of the server is imported here.
"""

from typing import Annotated, Literal

import msgspec

from moonpool.contracts.documents.diff import Change
from moonpool.contracts.documents.wire import Stored

LAST_VERSION = 2**63 - 1
"""What a database can count to."""
Version = Annotated[int, msgspec.Meta(ge=0, le=LAST_VERSION)]


class PutDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole document. `version` is the one it replaces (0: there must be none yet); `If-Match` may say it
    instead. One of the two must."""

    content: dict[str, object]
    version: Version | None = None
    reason: str = ""


class Setting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`value` at `path` (`models.my-model.targets[0].url`). `text` is read as what belongs there."""

    path: str
    value: object = None
    text: str | None = None


class PatchDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Single places, all or none: first those to `unset`, then those to `set`. Without `version` it holds for
    whatever version is present."""

    set: tuple[Setting, ...] = ()
    unset: tuple[str, ...] = ()
    version: Version | None = None
    reason: str = ""


class Rollback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Back to the content of version `to`, as a new version."""

    to: Version
    version: Version | None = None
    reason: str = ""


class Trial(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document that is looked at and not kept."""

    content: dict[str, object]


class DocumentHead(msgspec.Struct, frozen=True, kw_only=True):
    """A version without its content."""

    name: str
    version: int
    author: str
    reason: str
    at: float


class DocumentHeads(msgspec.Struct, frozen=True, kw_only=True):
    data: list[DocumentHead]
    has_more: bool = False
    object: Literal["list"] = "list"


class DocumentView(msgspec.Struct, frozen=True, kw_only=True):
    """`stale`: the database is away, and this is the last that was known."""

    name: str
    version: int
    author: str
    reason: str
    at: float
    content: dict[str, object]
    stale: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a change.

    `changed` False: the document was so already, and there is no new version. `takes_effect` is "now", or
    "restart" when `restart` names places that are read at the next start only. `shadowed` are places that
    the environment sets otherwise, so that the change has no effect there. `lost` are models that clients can
    use before the change and not after it.
    """

    name: str
    version: int
    changed: bool
    changes: list[Change]
    takes_effect: Literal["now", "restart"] = "now"
    restart: list[str] = []
    shadowed: list[str] = []
    lost: list[str] = []


class DiffView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    old: int
    new: int
    changes: list[Change]


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """`action`: put, patch, rollback, file, first, restore or refused (`detail` then says why)."""

    id: int = 0
    """Given when it is kept; rises."""
    at: float
    who: str
    key: str
    action: str
    name: str
    version: int
    reason: str
    detail: str
    request_id: str


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    data: list[AuditEntry]
    has_more: bool
    object: Literal["list"] = "list"


class KindView(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of documents, with the JSON Schema of its content."""

    name: str
    summary: str
    schema: dict[str, object]


class KindViews(msgspec.Struct, frozen=True, kw_only=True):
    data: list[KindView]
    object: Literal["list"] = "list"


def head(document: Stored) -> DocumentHead:
    return DocumentHead(
        name=document.name,
        version=document.version,
        author=document.author,
        reason=document.reason,
        at=document.at,
    )
