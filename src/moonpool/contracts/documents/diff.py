"""What differs between two versions of a document, path by path; and changes of single paths. Pure."""

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Literal

import msgspec

from moonpool.contracts.documents.place import child, spell
from moonpool.contracts.documents.validation import DocumentFault
from moonpool.ports.config import Path


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One difference. `old` is absent (None) for what was added, `new` for what was removed."""

    path: str
    kind: Literal["added", "removed", "changed"]
    old: object = None
    new: object = None


def differences(old: object, new: object, path: Path = ()) -> Iterator[tuple[Path, object, object]]:
    """(path, old, new), the deepest path that tells it; `msgspec.UNSET` stands for nothing there."""
    if _both(old, new, Mapping):
        before, after = _section(old), _section(new)
        for key in dict.fromkeys((*before, *after)):
            yield from differences(before.get(key, _NOTHING), after.get(key, _NOTHING), (*path, key))
    elif _both(old, new, list | tuple):
        first, second = _entries(old), _entries(new)
        for index in range(max(len(first), len(second))):
            yield from differences(
                first[index] if index < len(first) else _NOTHING,
                second[index] if index < len(second) else _NOTHING,
                (*path, index),
            )
    elif old != new or type(old) is not type(new):
        yield path, old, new


_NOTHING = msgspec.UNSET


def _both(old: object, new: object, kind: type | UnionType) -> bool:
    """Whether both have parts, or one has and the other is not there: then each part tells its own story."""
    if old is _NOTHING or new is _NOTHING:
        there = new if old is _NOTHING else old
        return isinstance(there, kind) and bool(there)
    return isinstance(old, kind) and isinstance(new, kind)


def _section(value: object) -> dict[str, object]:
    return {str(key): part for key, part in value.items()} if isinstance(value, Mapping) else {}


def _entries(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def diff(old: object, new: object) -> list[Change]:
    """From `old` to `new`, in the order of the documents."""
    found = []
    for path, before, after in differences(old, new):
        if before is msgspec.UNSET:
            found.append(Change(path=spell(path), kind="added", new=after))
        elif after is msgspec.UNSET:
            found.append(Change(path=spell(path), kind="removed", old=before))
        else:
            found.append(Change(path=spell(path), kind="changed", old=before, new=after))
    return found


def with_value(data: object, path: Path, value: object) -> object:
    """A copy of `data` with `value` at `path`; sections on the way are made. An index one beyond the end of a
    list appends. Raises DocumentFault where the path leads through something that has no parts."""
    return _with(data, path, value, ())


def _with(data: object, path: Path, value: object, before: Path) -> object:
    if not path:
        return value
    part, rest = path[0], path[1:]
    here = (*before, part)
    if isinstance(part, int):
        items = [] if data is None else data
        if not isinstance(items, list) or part > len(items):
            size = len(items) if isinstance(items, list) else 0
            raise DocumentFault(
                here, f"{spell(here)}: there is no such entry", f"The list has {size} entries."
            )
        inner = _with(items[part] if part < len(items) else None, rest, value, here)
        return [*items[:part], inner, *items[part + 1 :]]
    section = {} if data is None else data
    if not isinstance(section, dict):
        raise DocumentFault(here, f"{spell(before)} has no parts with names", "Set it as a whole.")
    return {**section, part: _with(section.get(part), rest, value, here)}


def without(data: object, path: Path) -> object:
    """A copy of `data` without what is at `path`. Raises DocumentFault when nothing is there."""
    parent = data
    for part in path[:-1]:
        parent = child(parent, part)
    last = path[-1] if path else ""
    if not path or not _has(parent, last):
        raise DocumentFault(path, f"{spell(path)} is not in the document", "Look at it with `config show`.")
    if isinstance(parent, list):
        shorter: object = [item for index, item in enumerate(parent) if index != last]
    else:
        assert isinstance(parent, dict)
        shorter = {key: item for key, item in parent.items() if key != last}
    return with_value(data, path[:-1], shorter)


def _has(data: object, part: str | int) -> bool:
    if isinstance(data, list):
        return isinstance(part, int) and part < len(data)
    return isinstance(data, dict) and part in data
