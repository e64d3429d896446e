"""A first start's migrations, in a process that ends with them.

Alembic, and what it touches of the memory that processes share, is 3 MB in each: a service runs for weeks,
and need not keep them for what it did in its first second.
"""

import os
from pathlib import Path

from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.contracts.config import SERVICES
from moonpool.contracts.documents.wire import CONFIG
from moonpool.ports.database import Database
from moonpool.wiring.adapters import open_config_database, open_database, open_upgrade_database
from moonpool.wiring.configuration import load_config
from moonpool.wiring.registry import UPGRADE
from moonpool.wiring.settings import ModuleSettings


def migrate_apart(settings: ModuleSettings) -> None:
    """Only where there is neither a thread nor an event loop yet: it forks.

    Whatever goes wrong is left for the module's own start, which meets it again and tells of it.
    """
    data = Path(settings.data)
    if (data / "db" / f"{settings.name}.db").exists():
        return
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        database = _database(settings, data)
        if isinstance(database, SqliteDatabase):
            database.migrate()
    except BaseException:  # noqa: BLE001 - a process's boundary, see above
        os._exit(1)
    os._exit(0)


def _database(settings: ModuleSettings, data: Path) -> Database | None:
    if settings.name == UPGRADE:
        return open_upgrade_database(data)
    if settings.name == CONFIG:
        return open_config_database(load_config(settings.config), data)
    if settings.name in SERVICES:
        return open_database(load_config(settings.config), data, settings.name)
    return None
