"""The API's page has every route of the upgrade manager."""

from pathlib import Path

from moonpool.contracts.manifest import Access
from moonpool.upgrade.manifest import MANIFEST

PAGE = (Path(__file__).parents[3] / "docs/api.md").read_text()


def test_every_route_is_an_admins_and_told() -> None:
    for route in MANIFEST.routes:
        assert route.access is Access.ADMIN
        assert f"| `{route.method} {route.path}` | admin |" in PAGE
