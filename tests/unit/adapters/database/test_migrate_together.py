"""Several services of one process (`moonpool serve --target=auth,model`) migrate at the same time."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from moonpool.adapters.database.migrate import ensure_schema, is_current, service_migrations

SERVICES = ("auth", "model", "chat", "user")


def test_each_database_gets_its_own_tables(tmp_path):
    def make(service):
        ensure_schema(tmp_path / f"{service}.db", service_migrations(service))

    with ThreadPoolExecutor(len(SERVICES)) as threads:
        list(threads.map(make, SERVICES))
    tables = set()
    for service in SERVICES:
        path = tmp_path / f"{service}.db"
        assert is_current(path, service_migrations(service))
        with closing(sqlite3.connect(path)) as connection:
            tables.add(frozenset(connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")))
    assert len(tables) == len(SERVICES)
