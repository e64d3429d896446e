"""From method and path to the route that a service's manifest declares, with its chain of filters.

Matching is on the path as received. A parameter is one segment; an encoded slash in it is refused, since
the service behind would see another path than the one whose rules were applied.
"""

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote

from moonpool.contracts.manifest import BodyKind, Route
from moonpool.core.handler import Handler
from moonpool.http.limits import BodyPolicy


class Entry:
    """`service` is "" for what the gateway answers itself."""

    __slots__ = ("body_policy", "handler", "route", "service")

    def __init__(self, service: str, route: Route, handler: Handler) -> None:
        self.service = service
        self.route = route
        self.handler = handler
        self.body_policy = BodyPolicy(route.body_limit, route.body is BodyKind.STREAMED)


class Match(NamedTuple):
    """Exactly one of `entry` and `allowed` says something; both empty: no such path."""

    entry: Entry | None
    parameters: dict[str, str]
    allowed: tuple[str, ...] = ()


_NO_PARAMETERS: dict[str, str] = {}
_ENCODED = ("%2f", "%5c", "%00")
_DOTS = frozenset({".", ".."})


class _Template:
    """A path with parameters, by segments. `rest` names a last parameter that takes all that follows."""

    def __init__(self, path: str) -> None:
        self.path = path
        segments = path.split("/")
        self.rest = ""
        last = segments[-1]
        if last.startswith("{") and last.endswith(":path}"):
            self.rest = last[1:-6]
            segments.pop()
        self.segments = segments
        self.methods: dict[str, Entry] = {}

    def match(self, parts: list[str]) -> dict[str, str] | None:
        count = len(self.segments)
        if len(parts) < count + bool(self.rest) or (not self.rest and len(parts) > count):
            return None
        parameters: dict[str, str] = {}
        for pattern, part in zip(self.segments, parts, strict=False):
            if pattern.startswith("{"):
                value = unquote(part)
                if not part or value in _DOTS or any(code in part.lower() for code in _ENCODED):
                    return None
                parameters[pattern[1:-1]] = value
            elif pattern != part:
                return None
        if self.rest:
            value = unquote("/".join(parts[count:]))
            if not value or "\0" in value or not _DOTS.isdisjoint(value.split("/")):
                return None
            parameters[self.rest] = value
        return parameters


class RouteTable:
    """Immutable once built. Literal paths win over templates, templates in the order of manifests."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._literal: dict[str, dict[str, Entry]] = {}
        templates: dict[str, _Template] = {}
        for entry in entries:
            path, method = entry.route.path, entry.route.method
            if "{" in path:
                template = templates.setdefault(_shape(path), _Template(path))
                if template.path != path:
                    raise ValueError(f"{path} and {template.path} are one path with two names")
                methods = template.methods
            else:
                methods = self._literal.setdefault(path, {})
            if method in methods:
                other, this = (e.service or "the gateway" for e in (methods[method], entry))
                raise ValueError(f"{method} {path} is declared by {other} and by {this}")
            methods[method] = entry
        self._templates = list(templates.values())

    def match(self, method: str, path: str) -> Match:
        methods = self._literal.get(path)
        if methods is not None:
            entry = _choose(methods, method)
            if entry is not None:
                return Match(entry, _NO_PARAMETERS)
        known = set(methods or ())
        parts = path.split("/")
        for template in self._templates:
            parameters = template.match(parts)
            if parameters is not None:
                entry = _choose(template.methods, method)
                if entry is not None:
                    return Match(entry, parameters)
                known.update(template.methods)
        if "GET" in known:
            known.add("HEAD")
        return Match(None, _NO_PARAMETERS, tuple(sorted(known)))


def _choose(methods: dict[str, Entry], method: str) -> Entry | None:
    entry = methods.get(method)
    return methods.get("GET") if entry is None and method == "HEAD" else entry


def _shape(path: str) -> str:
    """`path` without its parameters' names."""
    return "/".join(
        part if not part.startswith("{") else "{:path}" if part.endswith(":path}") else "{}"
        for part in path.split("/")
    )
