"""What only a folder has: symlinks, full disks, files of dead writers."""

import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moonpool.adapters.objects.local import LocalObjects
from moonpool.adapters.objects.local_folder import Folder, Writer
from moonpool.core.errors import BadRequest, MoonpoolError, NotFound, StartupError, Unavailable


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[LocalObjects]:
    store = LocalObjects(root)
    await store.start()
    yield store
    await store.stop()


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The kernel then refuses to write on (EFBIG), as it does on a full disk (ENOSPC)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def test_a_full_disk_is_unavailable_and_leaves_nothing_behind(store: LocalObjects, root: Path) -> None:
    await store.put("k", b"old")
    with no_file_larger_than(100_000), pytest.raises(Unavailable, match="full") as caught:
        await store.put("k", b"x" * 1_000_000)
    assert caught.value.hint
    assert files(root) == ["k"]
    assert (root / "k").read_bytes() == b"old"


async def test_symlinks_lead_nowhere(store: LocalObjects, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("s")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "file").symlink_to(tmp_path / "outside" / "secret")
    for key in ("folder/secret", "file"):
        with pytest.raises(BadRequest):
            await store.head(key)
        with pytest.raises(BadRequest):
            await anext(store.get(key))
    with pytest.raises(BadRequest):
        await store.put("folder/new", b"x")
    with pytest.raises(BadRequest):
        await store.delete("folder/secret")
    assert [info async for info in store.list("")] == []
    await store.put("file", b"x")  # takes the link's place
    assert (tmp_path / "outside" / "secret").read_text() == "s"
    assert files(tmp_path / "outside") == ["secret"]


async def test_what_is_no_file_is_no_object(store: LocalObjects, root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(NotFound):
        await anext(store.get("pipe"))
    assert [info async for info in store.list("")] == []


async def test_an_object_cannot_be_a_folder_too(store: LocalObjects) -> None:
    await store.put("a/b", b"x")
    for key in ("a", "a/b/c"):
        with pytest.raises(BadRequest):
            await store.put(key, b"x")


async def test_left_overs_of_dead_writers_go_and_those_of_live_ones_stay(
    store: LocalObjects, root: Path
) -> None:
    (root / ".incoming" / "dead").write_bytes(b"part")
    folder = Folder(root)
    assert files(root) == []
    writer = Writer(folder)
    writer.write(b"part")
    Folder(root).close()
    assert len(files(root)) == 1
    assert writer.publish(["k"]).size == 4
    assert files(root) == ["k"]
    folder.close()


async def test_the_incoming_folder_is_no_part_of_the_store(store: LocalObjects, root: Path) -> None:
    (root / ".incoming" / "x").write_bytes(b"")
    assert [info async for info in store.list("")] == []
    with pytest.raises(BadRequest):
        await store.head(".incoming/x")


def test_a_write_after_the_end_is_refused(root: Path) -> None:
    folder = Folder(root)
    writer = Writer(folder)
    writer.discard()
    with pytest.raises(OSError, match="given up"):
        writer.write(b"late")
    assert files(root) == []
    folder.close()


async def test_empty_folders_do_not_stay(store: LocalObjects, root: Path) -> None:
    await store.put("a/b/c", b"")
    await store.delete("a/b/c")
    assert [path.name for path in root.iterdir()] == [".incoming"]


async def test_files_belong_to_their_owner_only(store: LocalObjects, root: Path) -> None:
    await store.put("a/b", b"")
    for path in (root, root / "a", root / "a" / "b"):
        assert path.stat().st_mode & 0o077 == 0


async def test_a_folder_that_is_gone_is_noticed(store: LocalObjects, root: Path) -> None:
    root.rename(root.with_name("elsewhere"))
    with pytest.raises(MoonpoolError):
        await store.ping()


async def test_a_root_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError) as caught:
        await LocalObjects(tmp_path / "file" / "objects").start()
    assert caught.value.where
    assert caught.value.hint
