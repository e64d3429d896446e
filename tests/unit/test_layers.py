"""The import rules of the house hold, and each of them can be broken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / ".importlinter"
PACKAGES = ["cli", "wiring", "gateway", "upgrade", "configserver", "services", "adapters", "asgi"]
PACKAGES += ["middleware", "balancing", "http", "openai", "contracts", "ports", "core"]
SERVICES = ["auth", "user", "chat", "model", "inference", "training", "monitoring", "storage", "billing"]


def lint(source: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-logo", "--no-cache", "--config", RULES],
        env={**os.environ, "PYTHONPATH": str(source), "PYTHONSAFEPATH": "1", "COLUMNS": "200"},
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def broken(output: str) -> set[str]:
    lines = [line for line in output.splitlines() if " BROKEN" in line]
    return {line.partition(" BROKEN")[0].strip() for line in lines}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """An empty house: every package, every service with its four usual files, and no import."""
    folders = [f"moonpool/{name}" for name in PACKAGES]
    folders += [f"moonpool/services/{name}" for name in SERVICES]
    for folder in ["moonpool", *folders]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    for service in SERVICES:
        for file in ("app", "manifest", "routes", "service", "store"):
            (tmp_path / "moonpool/services" / service / f"{file}.py").touch()
    for folder in folders[: len(PACKAGES)]:
        (tmp_path / folder / "a.py").touch()
        (tmp_path / folder / "b.py").touch()
    (tmp_path / "moonpool/asgi/outbox.py").touch()
    return tmp_path


def test_the_house_keeps_its_rules() -> None:
    result = lint(ROOT / "src")

    assert result.returncode == 0, result.stdout + result.stderr


def test_an_empty_house_breaks_no_rule(house: Path) -> None:
    result = lint(house)

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("importer", "statement", "rule"),
    [
        ("core/a", "import moonpool.ports.a", "Imports go down the layers"),
        ("gateway/a", "import moonpool.services.auth.manifest", "Imports go down the layers"),
        ("services/auth/app", "import moonpool.wiring.a", "Imports go down the layers"),
        ("wiring/a", "import moonpool.cli.a", "Imports go down the layers"),
        ("services/auth/app", "import moonpool.services.user.store", "Services do not know each other"),
        ("cli/a", "import moonpool.adapters.a", "Only wiring chooses adapters"),
        ("services/auth/store", "import aiosqlite", "Drivers live in adapters"),
        ("wiring/a", "import sqlite3", "Drivers live in adapters"),
        ("services/auth/routes", "import sqlalchemy", "SQL stays inside the services"),
        ("core/a", "import socket", "The core has no I/O"),
    ],
)
def test_each_rule_can_be_broken(house: Path, importer: str, statement: str, rule: str) -> None:
    (house / "moonpool" / f"{importer}.py").write_text(statement)

    assert rule in broken(lint(house).stdout)


def test_siblings_may_not_import_in_a_circle(house: Path) -> None:
    (house / "moonpool/http/a.py").write_text("import moonpool.http.b")
    (house / "moonpool/http/b.py").write_text("import moonpool.http.a")

    assert broken(lint(house).stdout) == {"No cycles, at any depth"}
