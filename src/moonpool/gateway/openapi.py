"""One description of the whole API out of every service's own part.

Only what a manifest publishes is in it. Schemas are prefixed with their service's name, since two services
may well both have a `Page`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from moonpool import __version__
from moonpool.contracts.manifest import Access, Manifest, Route

Document = dict[str, Any]
"""A JSON object of an OpenAPI document."""


def merge(manifests: Iterable[Manifest], documents: Mapping[str, Document], own: Iterable[Route]) -> Document:
    """`documents` by service; a service whose part is missing is described by its manifest alone."""
    paths: Document = {}
    schemas: Document = {}
    tags = []
    for manifest in manifests:
        tags.append({"name": manifest.service, "description": manifest.summary})
        document = _prefixed(documents.get(manifest.service, {}), manifest.service)
        schemas |= document.get("components", {}).get("schemas", {})
        for route in manifest.routes:
            operation = _find(document, route) or _bare(route)
            _add(paths, route, operation, manifest.service)
    for route in own:
        _add(paths, route, _bare(route), "gateway")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Moonpool", "version": __version__},
        "tags": [*tags, {"name": "gateway", "description": "Probes and operations."}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _add(paths: Document, route: Route, operation: Document, tag: str) -> None:
    operation = {**operation, "tags": [tag]}
    if route.summary:
        operation["summary"] = route.summary
    operation["operationId"] = f"{tag}_{route.method.lower()}_{_identifier(route.path)}"
    operation["security"] = [] if route.access is Access.PUBLIC else [{"key": []}]
    paths.setdefault(_plain(route.path), {})[route.method.lower()] = operation


def _find(document: Document, route: Route) -> Document | None:
    """The service's operation at the same path; parameters may be named or typed otherwise."""
    wanted = _shape(route.path)
    for path, operations in document.get("paths", {}).items():
        if _shape(path) == wanted:
            operation: Document | None = operations.get(route.method.lower())
            if operation is not None:
                return operation
    return None


def _shape(path: str) -> list[str]:
    return ["{}" if part.startswith("{") else part for part in path.rstrip("/").split("/")]


def _plain(path: str) -> str:
    return path.replace(":path}", "}")


def _identifier(path: str) -> str:
    return "_".join(part.strip("{}").replace(":path", "") for part in path.split("/") if part) or "root"


def _bare(route: Route) -> Document:
    parameters = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
        for part in _plain(route.path).split("/")
        if part.startswith("{")
    ]
    return {"parameters": parameters, "responses": {"200": {"description": "The answer"}}}


_SCHEMAS = "#/components/schemas/"


def _prefixed(node: Any, service: str) -> Any:
    """`node` with every schema's name, and every reference to one, prefixed."""
    if isinstance(node, list):
        return [_prefixed(item, service) for item in node]
    if not isinstance(node, dict):
        return node
    result: Document = {}
    for key, value in node.items():
        if key == "$ref" and isinstance(value, str) and value.startswith(_SCHEMAS):
            result[key] = f"{_SCHEMAS}{service}.{value.removeprefix(_SCHEMAS)}"
        elif key == "schemas" and isinstance(value, dict):
            result[key] = {f"{service}.{name}": _prefixed(schema, service) for name, schema in value.items()}
        else:
            result[key] = _prefixed(value, service)
    return result
