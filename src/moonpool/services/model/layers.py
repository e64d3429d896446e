"""Two layers make the catalogue: what the configuration file says, and what admins put on top. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from moonpool.contracts.catalogue import Model
from moonpool.core.errors import BadRequest

CONFIG = "config"
API = "api"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A model as one layer has it. Times are Unix seconds."""

    model: Model
    source: str
    created_at: float
    updated_at: float
    updated_by: str


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """What counts for an alias; `overrides`: a configured model lies hidden below."""

    entry: Entry
    overrides: bool


def merge(entries: Sequence[Entry]) -> dict[str, Effective]:
    """By alias, in its order: the API's entry where there is one."""
    configured = {entry.model.id: entry for entry in entries if entry.source == CONFIG}
    added = {entry.model.id: entry for entry in entries if entry.source == API}
    return {
        alias: Effective(
            entry=added.get(alias) or configured[alias],
            overrides=alias in added and alias in configured,
        )
        for alias in sorted(configured | added)
    }


def without_dangling(models: Mapping[str, Model]) -> dict[str, Model]:
    """The models without fallbacks that do not exist: those of added models to configured ones that
    have gone from the file since."""
    return {
        alias: msgspec.structs.replace(
            model, fallbacks=tuple(name for name in model.fallbacks if name in models)
        )
        for alias, model in models.items()
    }


def check_fallbacks(alias: str, models: Mapping[str, Model]) -> None:
    """Raises BadRequest when a fallback of `alias` does not exist, is listed twice or leads back to it."""
    fallbacks = models[alias].fallbacks
    for place, name in enumerate(fallbacks):
        where = f"fallbacks[{place}]"
        if name not in models:
            raise _bad(where, f"there is no model '{name}' to fall back to", "Add that one first.")
        if name in fallbacks[:place]:
            raise _bad(where, f"'{name}' is listed twice", "Leave one of them out.")
        path = _path(name, alias, models)
        if path:
            circle = " → ".join([alias, *path])
            raise _bad(where, f"these fallbacks go in a circle: {circle}", "Leave one of them out.")


def users_of(alias: str, models: Mapping[str, Model]) -> list[str]:
    """The models that fall back to `alias`."""
    return [other for other, model in models.items() if alias in model.fallbacks]


def _path(start: str, goal: str, models: Mapping[str, Model]) -> list[str]:
    """The fallbacks from `start` to `goal`, both included; empty when there is no way."""
    seen: set[str] = set()
    paths = [[start]]
    while paths:
        path = paths.pop()
        if path[-1] == goal:
            return path
        if path[-1] in seen or path[-1] not in models:
            continue
        seen.add(path[-1])
        paths.extend([*path, name] for name in models[path[-1]].fallbacks)
    return []


def _bad(param: str, message: str, hint: str) -> BadRequest:
    return BadRequest(message, code="invalid_value", param=param, hint=hint)
