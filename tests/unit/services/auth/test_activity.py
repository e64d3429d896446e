import asyncio

import pytest
import structlog

from moonpool.core.errors import Unavailable
from moonpool.services.auth import activity, store
from moonpool.services.auth.activity import Activity
from moonpool.services.auth.admin_key import AdminKeyFile


@pytest.fixture
async def service(make_parts, run_service):
    return await run_service(await make_parts("auth"))


@pytest.fixture
def parts(service):
    return service.parts


@pytest.fixture
def key_id(parts) -> str:
    key = AdminKeyFile(parts.data).read()
    assert key is not None
    return key.id


async def last_used(parts, key_id: str) -> float | None:
    async with parts.database.snapshot() as connection:
        stored = await store.find_key(connection, key_id)
    assert stored is not None
    return stored.last_used_at


async def test_many_uses_are_one_write(parts, key_id, monkeypatch) -> None:
    noted = Activity(parts.database, parts.clock, structlog.get_logger())
    noted.note(key_id)
    parts.clock.advance(5)
    noted.note(key_id)
    assert await last_used(parts, key_id) is None
    await noted.flush()
    assert await last_used(parts, key_id) == parts.clock.time()


async def test_a_time_never_moves_backwards(parts, key_id) -> None:
    late, early = (Activity(parts.database, parts.clock, structlog.get_logger()) for _ in range(2))
    early.note(key_id)
    parts.clock.advance(5)
    late.note(key_id)
    await late.flush()
    await early.flush()
    assert await last_used(parts, key_id) == parts.clock.time()


async def test_what_cannot_be_written_is_kept(parts, key_id, monkeypatch) -> None:
    noted = Activity(parts.database, parts.clock, structlog.get_logger())
    noted.note(key_id)

    def away():
        raise Unavailable("away")

    monkeypatch.setattr(parts.database, "transaction", away)
    await noted.flush()
    monkeypatch.undo()
    await noted.flush()
    assert await last_used(parts, key_id) == parts.clock.time()


async def test_memory_is_bounded(parts, monkeypatch) -> None:
    monkeypatch.setattr(activity, "CAPACITY", 3)
    noted = Activity(parts.database, parts.clock, structlog.get_logger())
    for number in range(10):
        noted.note(f"key_{number}")
    assert len(noted._used) == 3


async def test_the_last_uses_are_written_at_the_end(parts, key_id) -> None:
    noted = Activity(parts.database, parts.clock, structlog.get_logger())
    job = asyncio.create_task(noted.run())
    await asyncio.sleep(0)
    noted.note(key_id)
    job.cancel()
    await asyncio.wait([job])
    assert await last_used(parts, key_id) == parts.clock.time()
