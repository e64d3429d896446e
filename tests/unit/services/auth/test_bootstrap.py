"""The first start, killed anywhere and started by several at once; and the way back to a lost key."""

import asyncio
import stat
from pathlib import Path

import pytest
import structlog
from sqlalchemy import func, select

from moonpool.asgi.outbox import Outbox
from moonpool.contracts.auth import REVOCATIONS
from moonpool.core.errors import StartupError
from moonpool.services.auth import keys, store, tables
from moonpool.services.auth.admin_key import AdminKeyFile
from moonpool.services.auth.bootstrap import Bootstrap

PEPPER = b"0123456789abcdef"


class Killed(BaseException):
    """The process ends here."""


def boot(parts, file: AdminKeyFile | None = None) -> Bootstrap:
    log = structlog.get_logger()
    outbox = Outbox(tables.outbox, database=parts.database, events=parts.events, clock=parts.clock, log=log)
    return Bootstrap(
        database=parts.database,
        file=file or AdminKeyFile(parts.data),
        outbox=outbox,
        pepper=PEPPER,
        clock=parts.clock,
        log=log,
    )


async def count(parts, table) -> int:
    async with parts.database.snapshot() as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar_one()


async def admin_key(parts) -> store.StoredKey:
    """The stored key that the file's key is; it matches."""
    key = AdminKeyFile(parts.data).read()
    assert key is not None
    async with parts.database.snapshot() as connection:
        stored = await store.find_key(connection, key.id)
    assert stored is not None
    assert keys.matches(PEPPER, key.text, stored.digest)
    return stored


@pytest.fixture
async def parts(make_parts):
    return await make_parts("auth")


async def test_the_first_start_makes_an_owner_with_a_key(parts) -> None:
    await boot(parts).start()
    stored = await admin_key(parts)
    assert stored.role == "owner"
    assert stored.scopes == ()
    assert stored.status(parts.clock.time()) == "active"
    path: Path = parts.data / "admin.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in parts.data.iterdir() if "admin" in entry.name] == ["admin.key"]


async def test_the_second_start_changes_nothing(parts) -> None:
    await boot(parts).start()
    before = (parts.data / "admin.key").read_bytes()
    await boot(parts).start()
    assert (parts.data / "admin.key").read_bytes() == before
    assert await count(parts, tables.api_keys) == 1


async def test_several_processes_start_at_once(make_parts) -> None:
    many = [await make_parts("auth") for _ in range(4)]
    await asyncio.gather(*(boot(parts).start() for parts in many))
    for table in (tables.organisations, tables.users, tables.api_keys, tables.installation):
        assert await count(many[0], table) == 1
    await admin_key(many[0])


async def test_killed_between_the_file_and_the_commit(parts) -> None:
    class Dies(AdminKeyFile):
        def write(self, key: keys.ApiKey) -> None:
            super().write(key)
            raise Killed

    with pytest.raises(Killed):
        await boot(parts, Dies(parts.data)).start()
    assert await count(parts, tables.api_keys) == 0
    written = (parts.data / "admin.key").read_bytes()

    await boot(parts).start()
    assert (parts.data / "admin.key").read_bytes() == written
    await admin_key(parts)


async def test_a_key_can_be_brought_along(parts) -> None:
    key = keys.mint(parts.clock)
    (parts.data / "admin.key").write_text(key.text)
    (parts.data / "admin.key").chmod(0o644)
    await boot(parts).start()
    assert (await admin_key(parts)).id == key.id
    assert stat.S_IMODE((parts.data / "admin.key").stat().st_mode) == 0o600


async def test_rubbish_in_the_file_is_no_key(parts) -> None:
    (parts.data / "admin.key").write_text("secret")
    await boot(parts).start()
    await admin_key(parts)


async def test_when_the_key_cannot_be_written_nothing_is_created(parts) -> None:
    (parts.data / "admin.key").mkdir()  # unreadable and unwritable as a file, for root too
    with pytest.raises(StartupError) as refused:
        await boot(parts).start()
    assert str(parts.data / "admin.key") in str(refused.value)
    assert await count(parts, tables.installation) == 0


async def test_a_missing_file_changes_nothing(parts) -> None:
    await boot(parts).start()
    stored = await admin_key(parts)
    (parts.data / "admin.key").unlink()
    with structlog.testing.capture_logs() as logs:
        await boot(parts).start()
    assert not (parts.data / "admin.key").exists()
    assert "moonpool keys recover" in logs[-1]["hint"]
    async with parts.database.snapshot() as connection:
        again = await store.find_key(connection, stored.id)
    assert again == stored


async def test_another_installations_key_is_told(parts) -> None:
    await boot(parts).start()
    (parts.data / "admin.key").write_text(keys.mint(parts.clock).text)
    with structlog.testing.capture_logs() as logs:
        await boot(parts).start()
    assert "does not know" in logs[-1]["event"]


async def test_recovery_on_request(parts) -> None:
    await boot(parts).start()
    old = await admin_key(parts)
    (parts.data / "admin.key").unlink()
    (parts.data / "admin.key.recover").touch()
    await boot(parts).start()

    new = await admin_key(parts)
    assert new.id != old.id
    assert new.user == old.user
    assert not (parts.data / "admin.key.recover").exists()
    async with parts.database.snapshot() as connection:
        revoked = await store.find_key(connection, old.id)
        told = (await connection.execute(select(tables.outbox))).all()
    assert revoked is not None
    assert revoked.status(parts.clock.time()) == "revoked"
    assert [(row.topic, row.key) for row in told] == [(REVOCATIONS, old.id)]


async def test_recovery_killed_before_its_commit_is_repeated(parts) -> None:
    await boot(parts).start()
    old = await admin_key(parts)

    class Dies(AdminKeyFile):
        def write(self, key: keys.ApiKey) -> None:
            super().write(key)
            raise Killed

    (parts.data / "admin.key.recover").touch()
    with pytest.raises(Killed):
        await boot(parts, Dies(parts.data)).recover()
    async with parts.database.snapshot() as connection:
        kept = await store.find_key(connection, old.id)
    assert kept is not None
    assert kept.revoked_at is None

    await boot(parts).start()
    assert (await admin_key(parts)).id != old.id


async def test_recovery_without_a_request_does_nothing(parts) -> None:
    await boot(parts).start()
    before = await admin_key(parts)
    await boot(parts).recover()
    assert await admin_key(parts) == before
