"""What the migrations build is what the stores' tables say, for every service that has tables."""

from importlib import import_module
from importlib.util import find_spec

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from moonpool.contracts.config import SERVICES


def _tables(name: str):
    for module in ("tables", "store"):
        if find_spec(f"moonpool.services.{name}") and find_spec(f"moonpool.services.{name}.{module}"):
            found = getattr(import_module(f"moonpool.services.{name}.{module}"), "metadata", None)
            if found is not None:
                return found
    return None


def _is_ours(_object, name, *_) -> bool:
    """Not what the migrations themselves keep."""
    return name != "schema_compatibility"


@pytest.mark.parametrize("name", [name for name in SERVICES if _tables(name) is not None])
async def test_migrations_build_the_tables(name: str, make_parts) -> None:
    parts = await make_parts(name)
    async with parts.database.snapshot() as connection:

        def compare(sync):
            opts = {"compare_type": True, "include_object": _is_ours}
            context = MigrationContext.configure(sync, opts=opts)
            return compare_metadata(context, _tables(name))

        assert await connection.run_sync(compare) == []
