"""The kinds of documents that a platform has."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from moonpool.ports.config import Kind

AnyKind = Kind[Any]
"""Where kinds are only looked up; whoever names one has its type."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._-]{0,127})?")


class Kinds:
    """`find` by a document's name: `routing/chat` is of the kind `routing/*`."""

    def __init__(self, kinds: Sequence[AnyKind]) -> None:
        names = [kind.name for kind in kinds]
        if len(set(names)) < len(names):
            raise ValueError(f"two kinds have one name: {', '.join(sorted(names))}")
        self._kinds = tuple(kinds)

    def __iter__(self) -> Iterator[AnyKind]:
        return iter(self._kinds)

    def find(self, name: str) -> AnyKind | None:
        if not _NAME.fullmatch(name):
            return None
        return next((kind for kind in self._kinds if kind.covers(name)), None)
