"""From a file and the environment to a valid document, or an error that says where and what is allowed."""

import re
from collections.abc import Mapping
from pathlib import Path as FilePath

import msgspec

from moonpool.adapters.config.check import check
from moonpool.adapters.config.document import Document, Path, child, spell
from moonpool.adapters.config.environment import apply_environment
from moonpool.adapters.config.schema import allowed_keys, describe, suggest, type_at
from moonpool.adapters.config.yaml_file import read_yaml
from moonpool.contracts.config import PlatformConfig
from moonpool.core.errors import StartupError

# As msgspec writes them: what is wrong, " - at ", and `$.models[...].targets[0].weight`.
_ERROR = re.compile(r"(?P<message>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(?P<key>\w+)|\[(?P<index>\d+)\]|(?P<any>\[\.\.\.\])")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`")


def load(file: FilePath | None, environ: Mapping[str, str]) -> PlatformConfig:
    """Without a file: the defaults, and what the environment says. Raises StartupError."""
    document = Document("the environment", {}) if file is None else read_yaml(file)
    if document.data is not None and not isinstance(document.data, dict):
        raise StartupError(
            "the document must be settings, not a list or a value",
            where=document.where(()),
            hint=suggest("", allowed_keys(())),
        )
    apply_environment(document, environ)
    return validate(document)


def validate(document: Document) -> PlatformConfig:
    """Schema, then how the parts fit together. Raises StartupError about the first fault."""
    try:
        config = msgspec.convert(document.data, PlatformConfig)
    except msgspec.ValidationError as error:
        raise _explain(document, error) from error
    for problem in check(config):
        raise StartupError(
            f"{spell(problem.path)}: {problem.message}",
            where=document.where(problem.path),
            hint=problem.hint,
        )
    return config


def _explain(document: Document, error: msgspec.ValidationError) -> StartupError:
    matched = _ERROR.fullmatch(str(error))
    assert matched is not None
    message = matched["message"]
    path = _locate(document.data, matched["path"] or "", str(error))
    unknown = _UNKNOWN.fullmatch(message)
    if unknown is not None:
        name = unknown["name"]
        return StartupError(
            f"{spell(path)} has no setting {name}",
            where=document.where((*path, name)),
            hint=suggest(name, allowed_keys(path)),
        )
    allowed = describe(type_at(path))
    return StartupError(
        f"{spell(path)}: {message[:1].lower()}{message[1:].replace('`', '')}",
        where=document.where(path),
        hint=f"Allowed: {allowed}." if allowed else None,
    )


def _locate(data: object, told: str, error: str) -> Path:
    """The full path: msgspec writes `[...]` for a key of a mapping, so ask it about one key at a time."""
    path: Path = ()
    for step in _STEP.finditer(told):
        if step["index"] is not None:
            path = (*path, int(step["index"]))
        elif step["key"] is not None:
            path = (*path, step["key"])
        else:
            path = (*path, _guilty(data, path, error))
    return path


def _guilty(data: object, path: Path, error: str) -> str:
    inside = data
    for part in path:
        inside = child(inside, part)
    assert isinstance(inside, dict)
    for key, value in inside.items():
        alone = _only(data, path, {key: value})
        try:
            msgspec.convert(alone, PlatformConfig)
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
