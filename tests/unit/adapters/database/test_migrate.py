"""The fast path, and two processes that start at once."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from moonpool.adapters.database.migrate import ensure_schema, is_current
from moonpool.core.errors import StartupError

STEP = """
from alembic import op
revision = "{revision}"
down_revision = {parent!r}
def upgrade() -> None:
    op.execute("CREATE TABLE t{revision} (id INTEGER PRIMARY KEY)")
    {more}
"""


def step(folder: Path, revision: str, parent: str | None, more: str = "pass") -> None:
    (folder / "versions").mkdir(parents=True, exist_ok=True)
    script = STEP.format(revision=revision, parent=parent, more=more)
    (folder / "versions" / f"{revision}_t.py").write_text(script)


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {row[0] for row in rows} - {"alembic_version"}


def run(code: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


CHILD = """
import sys
from pathlib import Path
from moonpool.adapters.database.migrate import ensure_schema
ensure_schema(Path(sys.argv[1]), Path(sys.argv[2]))
print("alembic" in sys.modules)
"""


def test_processes_that_start_at_once_migrate_once_and_the_next_needs_no_alembic(tmp_path: Path) -> None:
    for revision, parent in (("0001", None), ("0002", "0001")):
        step(tmp_path / "m", revision, parent)
    arguments = (CHILD, str(tmp_path / "t.db"), str(tmp_path / "m"))
    children = [run(*arguments) for _ in range(3)]
    imported = [child.communicate()[0].strip() for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert imported.count("True") == 1
    assert tables(tmp_path / "t.db") == {"t0001", "t0002"}
    later = run(*arguments)
    assert later.communicate()[0].strip() == "False"


def test_current(tmp_path: Path) -> None:
    step(tmp_path / "m", "0001", None)
    assert not is_current(tmp_path / "t.db", tmp_path / "m")
    ensure_schema(tmp_path / "t.db", tmp_path / "m")
    assert is_current(tmp_path / "t.db", tmp_path / "m")
    step(tmp_path / "m", "0002", "0001")
    assert not is_current(tmp_path / "t.db", tmp_path / "m")


def test_a_service_without_migrations_gets_an_empty_file(tmp_path: Path) -> None:
    ensure_schema(tmp_path / "t.db", tmp_path / "m")
    assert tables(tmp_path / "t.db") == set()


def test_each_migration_stands_for_itself(tmp_path: Path) -> None:
    step(tmp_path / "m", "0001", None)
    step(tmp_path / "m", "0002", "0001", more="op.execute('nonsense')")
    with pytest.raises(StartupError):
        ensure_schema(tmp_path / "t.db", tmp_path / "m")
    assert tables(tmp_path / "t.db") == {"t0001"}


def test_a_migration_that_breaks_a_foreign_key_is_rolled_back(tmp_path: Path) -> None:
    step(tmp_path / "m", "0001", None)
    more = (
        "op.execute('CREATE TABLE child (p INTEGER REFERENCES t0001(id))')\n"
        "    op.execute('INSERT INTO child VALUES (7)')"
    )
    step(tmp_path / "m", "0002", "0001", more=more)
    with pytest.raises(StartupError, match="child"):
        ensure_schema(tmp_path / "t.db", tmp_path / "m")
    assert tables(tmp_path / "t.db") == {"t0001"}


def test_a_newer_database_keeps_every_byte(tmp_path: Path) -> None:
    step(tmp_path / "new", "0001", None)
    step(tmp_path / "new", "0002", "0001")
    step(tmp_path / "old", "0001", None)
    ensure_schema(tmp_path / "t.db", tmp_path / "new")
    before = (tmp_path / "t.db").read_bytes()
    with pytest.raises(StartupError, match=r"0002.*knows up to 0001"):
        ensure_schema(tmp_path / "t.db", tmp_path / "old")
    assert (tmp_path / "t.db").read_bytes() == before
