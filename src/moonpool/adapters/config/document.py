"""A configuration document before it is checked: plain data, and where each part of it was written."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Path = tuple[str | int, ...]
"""Keys and indices from the root."""


@dataclass(slots=True)
class Document:
    """`places` tells for a path what a person would look for: `FILE:LINE`, or a variable's name."""

    source: str
    data: object = None
    places: dict[Path, str] = field(default_factory=dict)

    def where(self, path: Path) -> str:
        """The place of `path`, or of the nearest thing around it that has one."""
        for length in range(len(path), -1, -1):
            place = self.places.get(path[:length])
            if place is not None:
                return place
        return self.source


def spell(path: Path) -> str:
    """`models.my-model.targets[0].url`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the document"


def child(data: object, part: str | int) -> object:
    """The part of plain data under a key or index; None when there is none."""
    if isinstance(data, Mapping):
        return data.get(part)
    if isinstance(data, list) and isinstance(part, int) and part < len(data):
        return data[part]
    return None
