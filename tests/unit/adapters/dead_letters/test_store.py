"""What only the real store has: encryption at rest, bounds, keys that change."""

from importlib import resources
from pathlib import Path

import pytest

from harness.letters import OWNER, make_letter
from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.adapters.dead_letters.sealing import Seal
from moonpool.adapters.dead_letters.store import DatabaseDeadLetters
from moonpool.core.errors import InternalError, Overloaded
from moonpool.core.principal import Principal

MIGRATIONS = Path(str(resources.files("moonpool.adapters.dead_letters"))) / "migrations"
OLD, NEW = b"a" * 32, b"b" * 32


def open_store(path: Path, *keys: bytes, **bounds: int) -> DatabaseDeadLetters:
    return DatabaseDeadLetters(SqliteDatabase(path / "letters.db", MIGRATIONS), keys or [OLD], **bounds)


async def test_nothing_private_is_readable_on_disk(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.start()
    secrets = [b"the moon landing was", b"idem-potent-key-7"]
    await store.put(make_letter(body=secrets[0] + b" x" * 5000, dedupe="key idem-potent-key-7"))
    letter = await store.claim("dl_1", now=0.0, until=1.0)
    assert letter is not None
    await store.settle(letter)
    await store.stop()
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"dl_1" in stored  # it is the right file
    assert secrets[0] not in stored
    assert secrets[1] not in stored
    assert (tmp_path / "letters.db").stat().st_mode & 0o077 == 0


async def test_it_survives_a_restart_and_a_new_key(tmp_path: Path) -> None:
    store = open_store(tmp_path, OLD)
    await store.start()
    await store.put(make_letter(body=b"one"))
    await store.stop()
    store = open_store(tmp_path, NEW, OLD)
    await store.start()
    letter = await store.claim("dl_1", now=0.0, until=1.0)
    assert letter is not None
    assert letter.sent.body == b"one"
    await store.settle(letter)  # now under the new key
    await store.stop()
    store = open_store(tmp_path, NEW)
    await store.start()
    assert (await store.get("dl_1")) is not None
    await store.stop()
    store = open_store(tmp_path, OLD)
    await store.start()
    with pytest.raises(InternalError, match="another key"):
        await store.get("dl_1")
    await store.stop()


def test_contents_cannot_be_exchanged_or_changed() -> None:
    seal = Seal([OLD])
    one, other = make_letter("dl_1"), make_letter("dl_2")
    sealed = seal.seal(one)
    assert seal.open(one.note, seal.key_id, sealed) == one
    assert seal.seal(one) != sealed
    for note, data in ((other.note, sealed), (one.note, sealed[:-1] + bytes([sealed[-1] ^ 1]))):
        with pytest.raises(InternalError, match="damaged"):
            seal.open(note, seal.key_id, data)


async def test_size_bounds(tmp_path: Path) -> None:
    store = open_store(tmp_path, OLD, maximum_bytes=8000, maximum_letters=100)
    await store.start()
    await store.put(make_letter("dl_1", body=b"x" * 2500))
    with pytest.raises(Overloaded, match="your organisation's share"):
        await store.put(make_letter("dl_2", body=b"x" * 2500))
    another = Principal(user="u", tenant="t2")
    await store.put(make_letter("dl_3", body=b"x" * 2500, principal=another))
    third = Principal(user="u", tenant="t3")
    with pytest.raises(Overloaded, match="queue of deferred requests is full"):
        await store.put(make_letter("dl_4", body=b"x" * 2500, principal=third))
    # the same request again is no new letter, however full it is
    assert (await store.put(make_letter("dl_9", dedupe="dedupe dl_1"))).id == "dl_1"
    await store.stop()


async def test_count_bound(tmp_path: Path) -> None:
    store = open_store(tmp_path, OLD, maximum_letters=4)
    await store.start()
    for n in range(2):
        await store.put(make_letter(f"dl_{n}"))
    with pytest.raises(Overloaded):
        await store.put(make_letter("dl_8", principal=OWNER))
    await store.stop()
