"""When the file given to `up` becomes a new version of the platform's document. Pure.

no document yet                        the file is version 1; without a file, the defaults are
the file is another than last time     its content is a new version, by "file"
the file is what it was last time      nothing: what was changed since by API stays
no file is given any more              nothing: the documents stay
"""

import msgspec

FILE, DEFAULTS, RESTORE = "file", "defaults", "snapshot"
"""Authors that are nobody."""


class GivenFile(msgspec.Struct, frozen=True, kw_only=True):
    """The file as it was read at this start. `fault` says why it cannot be a document ("": it can)."""

    path: str
    digest: str
    content: dict[str, object] = {}
    fault: str = ""
    hint: str = ""


def is_news(given: GivenFile | None, taken: str) -> bool:
    """Whether the file says something that was not taken over yet; `taken` is the last one's digest."""
    return given is not None and given.digest != taken
