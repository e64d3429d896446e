"""A configuration document before it is checked: plain data, and where each part of it was written."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from moonpool.ports.config import Path

_PLAIN = re.compile(r"[^.\[\]\"\s]+")
_PART = re.compile(r"""\[(?P<index>\d+)\]|(?P<dot>\.?)(?:"(?P<quoted>[^"]*)"|(?P<key>[^.\[\]"\s]+))""")


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
    """`models.my-model.targets[0].url`; a key that has dots or brackets itself stands in quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _PLAIN.fullmatch(part) else f'"{part}"'
            text += f".{key}" if text else key
    return text or "the document"


def parse_path(text: str) -> Path:
    """What `spell` wrote: `limits."address:192.0.2.7".concurrent`. Raises ValueError; "" is the whole."""
    path: list[str | int] = []
    position = 0
    while position < len(text):
        matched = _PART.match(text, position)
        # A dot stands between, never first; an index needs none before it.
        if matched is None or (matched["index"] is None and bool(matched["dot"]) != bool(path)):
            raise ValueError(f"{text!r} is no path: write it like models.my-model.targets[0].url")
        if matched["index"] is not None:
            path.append(int(matched["index"]))
        else:
            path.append(matched["key"] if matched["quoted"] is None else matched["quoted"])
        position = matched.end()
    return tuple(path)


def child(data: object, part: str | int) -> object:
    """The part of plain data under a key or index; None when there is none."""
    if isinstance(data, Mapping):
        return data.get(part)
    if isinstance(data, list) and isinstance(part, int) and part < len(data):
        return data[part]
    return None


def lookup(data: object, path: Path) -> tuple[bool, object]:
    """Whether there is something at `path`, and what."""
    inside = data
    for part in path:
        if isinstance(part, int):
            if not isinstance(inside, list | tuple) or part >= len(inside):
                return False, None
            inside = inside[part]
        elif isinstance(inside, Mapping) and part in inside:
            inside = inside[part]
        else:
            return False, None
    return True, inside
