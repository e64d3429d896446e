"""The storage service on real objects."""

from pathlib import Path
from typing import Any

import pytest

from moonpool.adapters.objects.local import LocalObjects


@pytest.fixture
async def objects(tmp_path: Path) -> Any:
    local = LocalObjects(tmp_path / "objects")
    await local.start()
    yield local
    await local.stop()


@pytest.fixture
async def storage(make_parts: Any, run_service: Any, objects: LocalObjects) -> Any:
    return await run_service(await make_parts("storage", objects=objects))
