"""The documents follow the code."""

from importlib import import_module
from pathlib import Path

import pytest

from moonpool.cli.config import app
from moonpool.configserver.manifest import MANIFEST
from moonpool.contracts.auth import SCOPES
from moonpool.contracts.config import SERVICES, PlatformConfig
from moonpool.core.principal import RANK, Role
from moonpool.middleware import pipeline

DOCS = Path(__file__).parents[2] / "docs"


def test_the_api_page_tells_what_each_role_may() -> None:
    _, _, told = (DOCS / "api.md").read_text().partition("### Roles and scopes")
    table, _, rest = told.partition("\n\n")[2].partition("\n\n")
    roles = [role for line in table.splitlines()[2:] for role in line.split("|")[1].strip().split(", ")]
    assert roles == sorted(Role, key=RANK.__getitem__)
    for scope in SCOPES:
        assert f"`{scope}`" in rest.partition("\n## ")[0]


@pytest.mark.parametrize("service", SERVICES)
def test_the_api_page_has_every_route(service: str) -> None:
    page = (DOCS / "api.md").read_text()
    for route in import_module(f"moonpool.services.{service}.manifest").MANIFEST.routes:
        assert f"| `{route.method} {route.path}` | {route.access.value}" in page


def test_the_api_page_has_every_route_of_the_config_server() -> None:
    page = (DOCS / "api.md").read_text()
    for route in MANIFEST.routes:
        assert f"| `{route.method} {route.path}` | {route.access.value}" in page


def test_the_configuration_page_has_every_command() -> None:
    page = (DOCS / "configuration.md").read_text()
    for command in app.registered_commands:
        assert f"config {command.name or command.callback.__name__}" in page


def test_the_operations_page_has_every_section_of_the_configuration() -> None:
    page = (DOCS / "operations.md").read_text()
    for section in PlatformConfig.__struct_fields__:
        assert f"`{section}`" in page


def test_the_architecture_page_names_every_filter() -> None:
    page = (DOCS / "architecture.md").read_text()
    for name in pipeline.ordered.__annotations__:
        if name != "return":
            assert name in page
