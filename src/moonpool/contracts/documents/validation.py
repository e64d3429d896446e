"""From plain data to a valid document, or the place of its first fault and what is allowed there. Pure."""

import re
from typing import TypeVar

import msgspec

from moonpool.contracts.documents.place import Document, child, spell
from moonpool.contracts.documents.schema import allowed_keys, describe, suggest, type_at
from moonpool.core.errors import RequestError
from moonpool.ports.config import Kind, Path, Problem

T = TypeVar("T")
# As msgspec writes them: what is wrong, " - at ", and `$.models[...].targets[0].weight`.
_ERROR = re.compile(r"(?P<message>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(?P<key>\w+)|\[(?P<index>\d+)\]|(?P<any>\[\.\.\.\])")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`")


class DocumentFault(RequestError):
    """`message` names the place; `path` is that place for programs, `param` for clients."""

    status = 422
    code = "invalid_document"

    def __init__(self, path: Path, message: str, hint: str | None = None) -> None:
        super().__init__(message, param=spell(path) if path else None, hint=hint)
        self.path = path


def validate(document: Document, kind: Kind[T], name: str = "") -> T:
    """Schema, then how the parts fit together. Raises DocumentFault about the first fault."""
    if not isinstance(document.data, dict):
        raise DocumentFault(
            (),
            "the document must be settings, not a list or a value",
            suggest("", allowed_keys(kind.shape, ())),
        )
    try:
        found = msgspec.convert(document.data, kind.shape)
    except msgspec.ValidationError as error:
        raise _explain(document.data, kind.shape, error) from error
    for problem in kind.check(name or kind.name, found):
        raise fault_of(problem)
    return found


def fault_of(problem: Problem) -> DocumentFault:
    """With its place in front."""
    return DocumentFault(problem.path, f"{spell(problem.path)}: {problem.message}", problem.hint)


def _explain(data: object, shape: type, error: msgspec.ValidationError) -> DocumentFault:
    matched = _ERROR.fullmatch(str(error))
    assert matched is not None
    message = matched["message"]
    path = _locate(data, shape, matched["path"] or "", str(error))
    unknown = _UNKNOWN.fullmatch(message)
    if unknown is not None:
        unknown_name = unknown["name"]
        return DocumentFault(
            (*path, unknown_name),
            f"{spell(path)} has no setting {unknown_name}",
            suggest(unknown_name, allowed_keys(shape, path)),
        )
    allowed = describe(type_at(shape, path))
    return DocumentFault(
        path,
        f"{spell(path)}: {message[:1].lower()}{message[1:].replace('`', '')}",
        f"Allowed: {allowed}." if allowed else None,
    )


def _locate(data: object, shape: type, told: str, error: str) -> Path:
    """The full path: msgspec writes `[...]` for a key of a mapping, so ask it about one key at a time."""
    path: Path = ()
    for step in _STEP.finditer(told):
        if step["index"] is not None:
            path = (*path, int(step["index"]))
        elif step["key"] is not None:
            path = (*path, step["key"])
        else:
            path = (*path, _guilty(data, shape, path, error))
    return path


def _guilty(data: object, shape: type, path: Path, error: str) -> str:
    inside = data
    for part in path:
        inside = child(inside, part)
    assert isinstance(inside, dict)
    for key, value in inside.items():
        alone = _only(data, path, {key: value})
        try:
            msgspec.convert(alone, shape)
        except msgspec.ValidationError as found:
            if str(found) == error:
                return str(key)
    raise AssertionError("an error of one entry does not need the others")


def _only(data: object, path: Path, section: dict[object, object]) -> object:
    """`data` with `section` in place of what stands at `path`."""
    if not path:
        return section
    inner = _only(child(data, path[0]), path[1:], section)
    if isinstance(data, dict):
        return {**data, path[0]: inner}
    assert isinstance(data, list)
    return [inner if index == path[0] else item for index, item in enumerate(data)]
