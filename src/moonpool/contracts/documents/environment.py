"""Settings from the environment, over those of the file.

    MOONPOOL_GATEWAY__PORT=9090                 gateway.port
    MOONPOOL_SERVICES__CHAT__INSTANCES=2        services.chat.instances
    MOONPOOL_MODELS__SMALL__TARGETS__0__WEIGHT=3        models.small.targets[0].weight
    MOONPOOL_MODELS__SMALL='{"targets": [{"url": "http://127.0.0.1:9100/v1"}]}'

`MOONPOOL_`, then the path in any case, its parts joined by two underscores; a part that names a model,
limit or service is taken in lower case, unless the file has it in another. Lists and sections are JSON.
Variables without two underscores are not for here.
"""

from collections.abc import Mapping

from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.documents.place import Document, child, spell
from moonpool.contracts.documents.schema import allowed_keys, convert, suggest, type_at
from moonpool.core.errors import StartupError
from moonpool.ports.config import Path

PREFIX = "MOONPOOL_"
SEPARATOR = "__"


def apply_environment(document: Document, environ: Mapping[str, str]) -> None:
    """Write the overrides into `document`. Raises StartupError that names the variable."""
    for name in sorted(environ):
        if name.upper().startswith(PREFIX) and SEPARATOR in name:
            _apply(document, name, environ[name])


def _apply(document: Document, name: str, text: str) -> None:
    path: Path = ()
    inside: object = document.data
    for part in name[len(PREFIX) :].split(SEPARATOR):
        path = (*path, _match(inside, part, path, name))
        inside = child(inside, path[-1])
    try:
        value = convert(text, shape=PlatformConfig, path=path)
    except ValueError as error:
        raise StartupError(
            f"{spell(path)} cannot be {text!r}", where=name, hint=f"Allowed: {error}."
        ) from error
    _set(document, path, value, name)


def _match(inside: object, part: str, path: Path, name: str) -> str | int:
    """The key or index that `part` names in the section at `path`."""
    known = allowed_keys(PlatformConfig, path)
    if known:
        if part.lower() in known:
            return part.lower()
        hint = suggest(part.lower(), known)
        raise StartupError(f"{spell(path)} has no setting {part.lower()}", where=name, hint=hint)
    if isinstance(inside, list) and part.isdecimal():
        if int(part) < len(inside):
            return int(part)
        raise StartupError(f"{spell(path)} has only {len(inside)} entries", where=name)
    if isinstance(inside, Mapping):
        spelled = [key for key in inside if isinstance(key, str) and key.lower() == part.lower()]
        return spelled[0] if len(spelled) == 1 else part.lower()
    if type_at(PlatformConfig, (*path, part.lower())) is None or not part:
        raise StartupError(f"there is no setting at {spell((*path, part.lower()))}", where=name)
    return part.lower()


def _set(document: Document, path: Path, value: object, name: str) -> None:
    if not isinstance(document.data, dict):
        document.data = {}
    inside: object = document.data
    for depth, part in enumerate(path[:-1], 1):
        following = child(inside, part)
        if not isinstance(following, dict | list):
            following = {}
            _put(inside, part, following)
            document.places[path[:depth]] = name
        inside = following
    _put(inside, path[-1], value)
    for inner in [one for one in document.places if one[: len(path)] == path]:
        del document.places[inner]
    document.places[path] = name


def _put(inside: object, part: str | int, value: object) -> None:
    if isinstance(inside, list):
        assert isinstance(part, int)
        inside[part] = value
    elif isinstance(inside, dict):
        inside[part] = value
