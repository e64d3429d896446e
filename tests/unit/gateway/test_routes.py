"""Which route a path is, and which it is not."""

import pytest

from moonpool.contracts.manifest import Route
from moonpool.core.message import Response
from moonpool.gateway.routes import Entry, RouteTable


async def handler(ctx, request) -> Response:
    return Response(200)


def entry(method: str, path: str, service: str = "s") -> Entry:
    return Entry(service, Route(method=method, path=path), handler)


TABLE = RouteTable(
    [
        entry("GET", "/v1/models"),
        entry("POST", "/v1/chat/completions"),
        entry("GET", "/v1/models/{model:path}", "model"),
        entry("PUT", "/v1/models/{model:path}", "model"),
        entry("GET", "/api/keys/{key_id}"),
        entry("DELETE", "/api/keys/{key_id}"),
        entry("GET", "/api/keys/{key_id}/usage"),
        entry("POST", "/api/keys/own", "other"),
        entry("GET", "/api/{kind}/{id}"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "route", "parameters"),
    [
        ("GET", "/v1/models", "/v1/models", {}),
        ("HEAD", "/v1/models", "/v1/models", {}),
        ("POST", "/v1/chat/completions", "/v1/chat/completions", {}),
        ("GET", "/v1/models/a", "/v1/models/{model:path}", {"model": "a"}),
        ("GET", "/v1/models/org/name", "/v1/models/{model:path}", {"model": "org/name"}),
        ("GET", "/v1/models/org%2Fname", "/v1/models/{model:path}", {"model": "org/name"}),
        ("GET", "/v1/models/a..b", "/v1/models/{model:path}", {"model": "a..b"}),
        ("GET", "/api/keys/k%20%C3%A91", "/api/keys/{key_id}", {"key_id": "k é1"}),
        ("HEAD", "/api/keys/k", "/api/keys/{key_id}", {"key_id": "k"}),
        ("GET", "/api/keys/k/usage", "/api/keys/{key_id}/usage", {"key_id": "k"}),
        ("POST", "/api/keys/own", "/api/keys/own", {}),
        # A literal path of one service does not hide another's template:
        ("GET", "/api/keys/own", "/api/keys/{key_id}", {"key_id": "own"}),
        ("GET", "/api/users/7", "/api/{kind}/{id}", {"kind": "users", "id": "7"}),
    ],
)
def test_found(method: str, path: str, route: str, parameters: dict[str, str]) -> None:
    match = TABLE.match(method, path)
    assert match.entry is not None
    assert (match.entry.route.path, match.parameters, match.allowed) == (route, parameters, ())


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "*",
        "/v1",
        "/v1/models/",
        "/V1/models",
        "//v1/models",
        "/v1/chat/completions/",
        "/v1/%63hat/completions",
        "/api/keys/",
        "/api/keys/k/",
        "/api/keys/a%2Fb",
        "/api/keys/a%2fb",
        "/api/keys/a%5Cb",
        "/api/keys/a%00b",
        "/api/keys/..",
        "/api/keys/%2e%2E",
        "/api/keys/.",
        "/api/keys/../usage",
        "/v1/models/..",
        "/v1/models/a/../b",
        "/v1/models/a%2f..%2Fb",
        "/v1/models/a%00b",
    ],
)
def test_no_such_path(path: str) -> None:
    assert TABLE.match("GET", path)[::2] == (None, ())


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/models", ("GET", "HEAD")),
        ("GET", "/v1/chat/completions", ("POST",)),
        ("HEAD", "/v1/chat/completions", ("POST",)),
        ("DELETE", "/v1/models/a", ("GET", "HEAD", "PUT")),
        ("PATCH", "/api/keys/own", ("DELETE", "GET", "HEAD", "POST")),
        ("get", "/v1/models", ("GET", "HEAD")),
    ],
)
def test_another_method(method: str, path: str, allowed: tuple[str, ...]) -> None:
    match = TABLE.match(method, path)
    assert (match.entry, match.allowed) == (None, allowed)


@pytest.mark.parametrize("path", ["/a", "/a/{b}", "/a/{b:path}"])
def test_one_route_belongs_to_one_service(path: str) -> None:
    with pytest.raises(ValueError, match="declared by one and by two"):
        RouteTable([entry("GET", path, "one"), entry("GET", path, "two")])
    with pytest.raises(ValueError, match="the gateway"):
        RouteTable([entry("GET", path, ""), entry("GET", path, "two")])


def test_one_path_has_one_set_of_names() -> None:
    """Else the second service's methods could never be reached."""
    with pytest.raises(ValueError, match="two names"):
        RouteTable([entry("GET", "/a/{b}"), entry("DELETE", "/a/{c}")])
