"""Requests as nobody means them, made from what an application says of itself (its OpenAPI description).

Every parameter and every field, one at a time, gets every odd value; what is beside it is as it should be.
None of it may be a failure of the service.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

HUGE, ENDLESS = "9" * 23, "9" * 5000
ODD_TEXTS = (
    "",
    "x",
    "-1",
    "0",
    "1.5",
    HUGE,
    ENDLESS,
    "1e400",
    "nan",
    "-inf",
    "²",
    "\0",
    "é\u2028",
    "x" * 4000,
)
ODD_VALUES = (
    *('""', '"x"', "-1", "0", "1.5", HUGE, f"-{HUGE}", ENDLESS, "1e400", "1e308", f'"{HUGE}"', '"1e99"'),
    *('"NaN"', '"\\u0000"', '"\\u2028"', '"\\ud800"', "null", "true", "[]", "{}", "[null]", '{"x":{}}'),
    f'"{"x" * 4000}"',
)
ODD_BODIES = (
    *(b"", b" ", b"null", b"[]", b"7", b"{", b'"\xff"', b"\x1f\x8b\x08", b'{"a":1,"a":2}', b"[" * 9000),
    b'{"bogus":' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"bogus":' + b'{"a":' * 3000 + b"1" + b"}" * 3001,
)


class OddRequest(NamedTuple):
    method: str
    path: str
    body: bytes | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path[:120]} {(self.body or b'')[:200]!r}"


def making(description: dict[str, Any]) -> Iterator[tuple[str, OddRequest]]:
    """What makes things that other routes are about: the beginning of their paths, and the request."""
    schemas = description.get("components", {}).get("schemas", {})
    for path, operations in description["paths"].items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json")
        if content is not None and "{" not in path:
            yield (
                path + "/{",
                OddRequest("POST", path, json.dumps(_example(content["schema"], schemas)).encode()),
            )


def odd_requests(description: dict[str, Any], made: dict[str, str]) -> Iterator[OddRequest]:
    """For every route in an OpenAPI document. `made`: ids of what there is, by the beginning of the paths."""
    schemas = description.get("components", {}).get("schemas", {})
    routes = [
        (path, method, operation)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    for path, method, operation in sorted(routes, key=lambda route: route[1] == "delete"):
        for beginning, id in made.items():
            if path.startswith(beginning):  # first what is about a thing, then its removal
                known = beginning + path.removeprefix(beginning).partition("}")[0] + "}"
                place = path.replace(known, beginning.removesuffix("{") + id)
                yield from _of(method.upper(), place, operation, schemas)
        yield from _of(method.upper(), path, operation, schemas)


def _of(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> Iterator[OddRequest]:
    parameters = [
        each
        for each in operation.get("parameters", [])
        if each["in"] != "path" or f"{{{each['name']}}}" in path
    ]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    good = None if content is None else _example(content["schema"], schemas)
    filled, query = _place(path, parameters), _query(parameters, schemas)
    body = None if good is None else json.dumps(good).encode()
    for parameter in parameters:
        for text in ODD_TEXTS:
            odd = {parameter["name"]: text}
            if parameter["in"] == "path" and text:
                yield OddRequest(method, _place(path, parameters, odd) + query, body)
            elif parameter["in"] == "query":
                yield OddRequest(method, filled + _query(parameters, schemas, odd), body)
    if isinstance(good, dict) and content is not None:
        yield from (OddRequest(method, filled + query, odd) for odd in ODD_BODIES)
        for document in _odd_documents(content["schema"], schemas):
            yield OddRequest(method, filled + query, document.encode())


def _odd_documents(schema: dict[str, Any], schemas: dict[str, Any], depth: int = 0) -> Iterator[str]:
    """Examples in which one field has an odd value, also in the objects within."""
    schema = _resolved(schema, schemas)
    for choice in (*schema.get("oneOf", ()), *schema.get("anyOf", ())):
        yield from _odd_documents(choice, schemas, depth)
    if "properties" not in schema or depth > 3:
        return
    good = _example(schema, schemas)
    for name, field in schema["properties"].items():
        rest = [f"{json.dumps(key)}:{json.dumps(each)}" for key, each in good.items() if key != name]
        for value in (*ODD_VALUES, *_odd_documents(field, schemas, depth + 1)):
            yield f"{{{','.join([*rest, f'{json.dumps(name)}:{value}'])}}}"


def _place(path: str, parameters: list[dict[str, Any]], odd: dict[str, str] | None = None) -> str:
    for parameter in parameters:
        if parameter["in"] == "path":
            value = quote((odd or {}).get(parameter["name"], "x"), safe="")
            path = path.replace(f"{{{parameter['name']}}}", value)
    return path


def _query(
    parameters: list[dict[str, Any]], schemas: dict[str, Any], odd: dict[str, str] | None = None
) -> str:
    """Those that must be there, and the odd one."""
    values = {
        each["name"]: str(_example(each["schema"], schemas))
        for each in parameters
        if each["in"] == "query" and each.get("required")
    }
    values.update(odd or {})
    return "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items())


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
    return schema


def _example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """The least that fits: what must be there."""
    schema = _resolved(schema, schemas)
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            return _example(schema[choice][0], schemas)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    match kind:
        case "object":
            fields = schema.get("properties", {})
            return {name: _example(fields[name], schemas) for name in schema.get("required", [])}
        case "array":
            return [_example(schema["items"], schemas)] if "items" in schema else []
        case "integer" | "number":
            return max(1, schema.get("minimum", 1))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "msg_" + "0" * 26 if "msg_" in schema.get("pattern", "") else "x"
