"""A first start migrates in another process; whatever hinders that is left for the module itself to tell."""

import json
from pathlib import Path

import pytest

from moonpool.adapters.database.migrate import is_current
from moonpool.wiring.adapters import CONFIG_MIGRATIONS, SERVICES_FOLDER, UPGRADE_MIGRATIONS
from moonpool.wiring.migrating import migrate_apart
from moonpool.wiring.settings import ModuleSettings


def settings(data: Path, name: str, config: str = "") -> ModuleSettings:
    return ModuleSettings(
        name=name, instance=f"{name}-0", endpoint="", data=str(data), config=config, topology=""
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "db").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "migrations"),
    [
        ("user", SERVICES_FOLDER / "user" / "migrations"),
        ("config", CONFIG_MIGRATIONS),
        ("upgrade", UPGRADE_MIGRATIONS),
    ],
)
def test_the_database_is_there_and_nothing_holds_it(data: Path, name: str, migrations: Path) -> None:
    migrate_apart(settings(data, name))
    assert is_current(data / "db" / f"{name}.db", migrations)


def test_one_that_is_there_is_left_alone(data: Path) -> None:
    file = data / "db" / "user.db"
    file.write_bytes(b"")
    migrate_apart(settings(data, "user"))
    assert file.read_bytes() == b""


def test_a_database_elsewhere_is_made_there(data: Path) -> None:
    config = data / "moonpool.yaml"
    config.write_text(json.dumps({"services": {"user": {"database": f"sqlite://{data}/other.db"}}}))
    migrate_apart(settings(data, "user", str(config)))
    assert is_current(data / "other.db", SERVICES_FOLDER / "user" / "migrations")
    assert not (data / "db" / "user.db").exists()


@pytest.mark.parametrize("name", ["gateway", "user"])
def test_who_has_none_or_a_broken_configuration_gets_none(data: Path, name: str) -> None:
    config = data / "moonpool.yaml"
    config.write_text("services: [")
    migrate_apart(settings(data, name, str(config)))
    assert list((data / "db").iterdir()) == []
