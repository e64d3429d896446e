"""The chain of migrations that this code knows, read without Alembic.

Alembic costs a process 0.2 s and 11 MB, and nine services start at once: a database that is already at
the head must not pay for it. The two assignments every Alembic script begins with are enough, and a third of
ours: `compatible_from = "0001"`, the oldest revision whose code works on what the migration makes. Without it
only code that knows the migration does (docs/adr/0015-schemas-across-releases.md).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from moonpool.core.errors import StartupError

_ASSIGNMENT = re.compile(
    r"^(?P<name>revision|down_revision|compatible_from)(?:\s*:[^=\n]+)?\s*=\s*"
    r"""(?:"(?P<double>[^"]+)"|'(?P<single>[^']+)'|(?P<none>None))\s*(?:#.*)?$""",
    re.MULTILINE,
)


class Revisions(NamedTuple):
    """`known` in order; `head` is the last, None when a service has no migrations. `oldest` tells for each
    the oldest revision whose code works on the schema that it leaves."""

    known: tuple[str, ...]
    oldest: tuple[str, ...] = ()

    @property
    def head(self) -> str | None:
        return self.known[-1] if self.known else None

    def oldest_at(self, revision: str) -> str:
        return self.oldest[self.known.index(revision)]


def read_revisions(migrations: Path) -> Revisions:
    """The scripts in `migrations/versions`, which must be one line of descent.

    Raises StartupError for a script without its two assignments, a branch or a gap.
    """
    followers: dict[str | None, str] = {}
    declared: dict[str, str] = {}
    for script in sorted((migrations / "versions").glob("*.py")):
        if script.name == "__init__.py":
            continue
        revision, parent, compatible_from = _read(script)
        if parent in followers:
            raise StartupError(
                f"migrations {followers[parent]} and {revision} both follow {parent or 'the beginning'}",
                where=str(script),
                hint="Give one of them the other as down_revision.",
            )
        followers[parent] = revision
        declared[revision] = compatible_from or revision
    known: list[str] = []
    parent = None
    while (revision := followers.pop(parent, None)) is not None:  # type: ignore[arg-type]
        known.append(revision)
        parent = revision
    if followers:
        raise StartupError(
            f"migrations {', '.join(sorted(followers.values()))} do not lead back to the first one",
            where=str(migrations),
            hint="Each down_revision must name an existing revision.",
        )
    return Revisions(tuple(known), tuple(_oldest(known, declared, migrations)))


def _oldest(known: list[str], declared: dict[str, str], where: Path) -> Iterator[str]:
    """What a migration takes from old code no later one gives back."""
    latest = 0
    for place, revision in enumerate(known):
        oldest = declared[revision]
        if oldest not in known[: place + 1]:
            raise StartupError(
                f"migration {revision} is compatible from {oldest}, which is no migration before it",
                where=str(where),
            )
        latest = max(latest, known.index(oldest))
        yield known[latest]


def _read(script: Path) -> tuple[str, str | None, str | None]:
    found = {
        match["name"]: match["double"] or match["single"]
        for match in _ASSIGNMENT.finditer(script.read_text("utf-8"))
    }
    revision = found.get("revision")
    if revision is None or "down_revision" not in found:
        raise StartupError(
            "a migration must assign `revision` and `down_revision`, each a plain string (or None)",
            where=str(script),
        )
    return revision, found["down_revision"], found.get("compatible_from")
