"""The migrations build what the tables say."""

import sqlite3
from pathlib import Path

import sqlalchemy as sa

from moonpool.adapters.database.migrate import ensure_schema
from moonpool.upgrade.tables import metadata

MIGRATIONS = Path(__file__).parents[3] / "src/moonpool/upgrade/migrations"


def shape(connection: sqlite3.Connection) -> set[tuple[object, ...]]:
    query = """
        SELECT 'column', m.name, c.name, c.type, c."notnull", c.pk
        FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'
        UNION SELECT 'index', m.name, i.name, i."unique", 0, 0
        FROM sqlite_master m, pragma_index_list(m.name) i WHERE m.type = 'table'
    """
    return {row for row in connection.execute(query) if row[1] not in ("alembic_version", "sqlite_sequence")}


def test_migrations_and_tables_agree(tmp_path: Path) -> None:
    ensure_schema(tmp_path / "migrated.db", MIGRATIONS)
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'created.db'}")
    metadata.create_all(engine)
    engine.dispose()
    with (
        sqlite3.connect(tmp_path / "migrated.db") as migrated,
        sqlite3.connect(tmp_path / "created.db") as created,
    ):
        assert shape(migrated) == shape(created)
    migrated.close()
    created.close()
