"""The chain of migrations that this code knows, read without Alembic.

Alembic costs a process 0.2 s and 11 MB, and nine services start at once: a database that is already at
the head must not pay for it. The two assignments every Alembic script begins with are enough.
"""

import re
from pathlib import Path
from typing import NamedTuple

from moonpool.core.errors import StartupError

_ASSIGNMENT = re.compile(
    r"^(?P<name>revision|down_revision)(?:\s*:[^=\n]+)?\s*=\s*"
    r"""(?:"(?P<double>[^"]+)"|'(?P<single>[^']+)'|(?P<none>None))\s*(?:#.*)?$""",
    re.MULTILINE,
)


class Revisions(NamedTuple):
    """`known` in order; `head` is the last, None when a service has no migrations."""

    known: tuple[str, ...]

    @property
    def head(self) -> str | None:
        return self.known[-1] if self.known else None


def read_revisions(migrations: Path) -> Revisions:
    """The scripts in `migrations/versions`, which must be one line of descent.

    Raises StartupError for a script without its two assignments, a branch or a gap.
    """
    followers: dict[str | None, str] = {}
    for script in sorted((migrations / "versions").glob("*.py")):
        if script.name == "__init__.py":
            continue
        revision, parent = _read(script)
        if parent in followers:
            raise StartupError(
                f"migrations {followers[parent]} and {revision} both follow {parent or 'the beginning'}",
                where=str(script),
                hint="Give one of them the other as down_revision.",
            )
        followers[parent] = revision
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
    return Revisions(tuple(known))


def _read(script: Path) -> tuple[str, str | None]:
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
    return revision, found["down_revision"]
