from pathlib import Path

import pytest

from moonpool.contracts.config import SERVICES, PlatformConfig
from moonpool.wiring.adapters import open_database

NORMAL, FULL = 1, 2
"""As `PRAGMA synchronous` says it."""


@pytest.mark.parametrize("service", SERVICES)
async def test_what_a_commit_survives(service: str, tmp_path: Path) -> None:
    """A revoked key and counted usage survive a power cut."""
    database = open_database(PlatformConfig(), tmp_path, service)
    await database.start()
    try:
        async with database.transaction() as connection:
            level = (await connection.exec_driver_sql("PRAGMA synchronous")).scalar_one()
    finally:
        await database.stop()
    assert level == (FULL if service in {"auth", "billing"} else NORMAL)
