"""Every service: what its manifest declares is what its application serves, and the other way round.

A service that exists is found by itself; a new one needs no change here.
"""

import re
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from unittest.mock import AsyncMock

import pytest
from litestar import Litestar

from moonpool.asgi.caller import CallerMiddleware
from moonpool.contracts.auth import SCOPES
from moonpool.contracts.clients import Clients
from moonpool.contracts.config import SERVICES
from moonpool.contracts.manifest import Access, BodyKind, Manifest

PLUMBING = re.compile(r"/(livez|readyz|metrics)$|/internal/")
"""What every service serves. The gateway routes none of it, but monitoring's /metrics."""
EXISTING = [
    name
    for name in SERVICES
    if find_spec(f"moonpool.services.{name}") and find_spec(f"moonpool.services.{name}.app")
]


def manifest_of(name: str) -> Manifest:
    manifest = import_module(f"moonpool.services.{name}.manifest").MANIFEST
    assert isinstance(manifest, Manifest)
    return manifest


def served(app: CallerMiddleware) -> set[tuple[str, str]]:
    """(method, path) of the routes in a manifest's notation: `{name}`, `{name:path}`."""
    litestar = app._app
    while not isinstance(litestar, Litestar):
        litestar = litestar.app
    found = set()
    for route in litestar.routes:
        if PLUMBING.match(route.path):
            continue
        path = re.sub(r"\{(\w+):(\w+)\}", _segment, route.path)
        found |= {(method, path) for method in route.methods if method != "OPTIONS"}  # type: ignore[union-attr]
    return found


def _segment(match: re.Match[str]) -> str:
    return f"{{{match[1]}:path}}" if match[2] == "path" else f"{{{match[1]}}}"


@pytest.mark.parametrize("name", EXISTING)
async def test_the_application_serves_its_manifest(name: str, make_parts) -> None:
    clients = Clients(auth=AsyncMock(), model=AsyncMock(), inference=AsyncMock(), probe=AsyncMock())
    parts = await make_parts(name, clients=clients, cache=AsyncMock(), objects=AsyncMock())
    app = import_module(f"moonpool.services.{name}.app").create(parts)
    declared = Counter((route.method, route.path) for route in manifest_of(name).routes)
    assert [route for route, times in declared.items() if times > 1] == []
    assert served(app) == {(method, path) for method, path in declared if not PLUMBING.match(path)}


@pytest.mark.parametrize("name", EXISTING)
def test_a_manifest_is_complete(name: str) -> None:
    manifest = manifest_of(name)
    assert manifest.service == name
    assert manifest.summary
    assert set(manifest.calls) <= set(SERVICES) - {name}
    for route in manifest.routes:
        assert route.summary, f"{route.method} {route.path} says nothing about itself"
        assert route.scope == "" or route.scope in SCOPES, f"unknown scope {route.scope!r}"
        assert route.timeouts.connect <= route.timeouts.total
        if route.method in {"GET", "HEAD", "DELETE"}:
            assert route.body is BodyKind.NONE, f"{route.method} {route.path} takes a body"
        if route.path.startswith("/admin/"):
            assert route.access is Access.ADMIN, f"{route.path} is open to others than admins"


def test_no_two_services_claim_one_route() -> None:
    claims = Counter(
        (route.method, re.sub(r"\{\w+", "{", route.path))
        for name in EXISTING
        for route in manifest_of(name).routes
    )
    assert [route for route, times in claims.items() if times > 1] == []
