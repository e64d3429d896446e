"""Several services of one process (`moonpool serve --target=auth,model`) migrate at the same time."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from moonpool.adapters.database.migrate import ensure_schema

MIGRATION = '''"""First.

Revision ID: 0001
"""

import time

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    time.sleep(0.1)  # long enough for the other one to begin, were it let in
    op.create_table("{name}", sa.Column("id", sa.Integer, primary_key=True))
'''


def test_each_database_gets_its_own_tables(tmp_path):
    names = ("auth", "model", "chat")
    for name in names:
        versions = tmp_path / name / "versions"
        versions.mkdir(parents=True)
        (versions / "0001_first.py").write_text(MIGRATION.format(name=name))

    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(lambda name: ensure_schema(tmp_path / f"{name}.db", tmp_path / name), names))
    for name in names:
        with closing(sqlite3.connect(tmp_path / f"{name}.db")) as connection:
            found = {
                row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
            }
        assert found == {"alembic_version", name}
