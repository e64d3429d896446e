"""What every object store promises (ports/objects.py). A new adapter adds a parameter below."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from moonpool.adapters.objects.local import LocalObjects
from moonpool.core.errors import BadRequest, NotFound, Unavailable
from moonpool.ports.objects import Objects

Open = Callable[[], Objects]


@pytest.fixture(params=["local"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Gives unstarted adapters to one and the same store."""
    assert request.param == "local"
    return lambda: LocalObjects(tmp_path / "objects")


@pytest.fixture
async def store(open_store: Open) -> AsyncIterator[Objects]:
    store = open_store()
    await store.start()
    yield store
    await store.stop()


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def read(store: Objects, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in store.get(key, start=start, end=end)])


async def keys(store: Objects, prefix: str = "") -> list[str]:
    return [info.key async for info in store.list(prefix)]


@pytest.mark.parametrize("data", [b"", b"hello", bytes(range(256)) * 4096])
async def test_get_gives_what_was_put(store: Objects, data: bytes) -> None:
    info = await store.put("a/b.bin", data)
    assert (info.key, info.size) == ("a/b.bin", len(data))
    assert info.modified > 1_600_000_000
    assert await read(store, "a/b.bin") == data
    assert await store.head("a/b.bin") == info


async def test_a_stream_is_put_whole(store: Objects) -> None:
    parts = [bytes([number]) * 100_000 for number in range(8)]
    info = await store.put("k", chunks(*parts))
    assert info.size == 800_000
    assert await read(store, "k") == b"".join(parts)


async def test_a_stream_of_nothing_is_an_empty_object(store: Objects) -> None:
    await store.put("k", chunks())
    assert await read(store, "k") == b""


async def test_a_stream_that_breaks_leaves_what_was_there(store: Objects) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 1_000_000
        raise ConnectionError

    await store.put("k", b"old")
    with pytest.raises(ConnectionError):
        await store.put("k", broken())
    with pytest.raises(ConnectionError):
        await store.put("new", broken())
    assert await read(store, "k") == b"old"
    assert await keys(store) == ["k"]


async def test_a_cancelled_put_leaves_nothing(store: Objects) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 1_000_000
        begun.set()
        await asyncio.Event().wait()

    putting = asyncio.create_task(store.put("k", endless()))
    await begun.wait()
    assert await keys(store) == [], "readers never see a part"
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await keys(store) == []


async def test_the_etag_changes_with_the_content(store: Objects) -> None:
    tags = {(await store.put("k", f"{number:03}".encode())).etag for number in range(50)}
    assert len(tags) == 50
    assert (await store.head("k")).etag in tags


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, None, b"0123456789"),
        (3, None, b"3456789"),
        (0, 4, b"0123"),
        (2, 5, b"234"),
        (5, 5, b""),
        (8, 100, b"89"),
        (10, None, b""),
    ],
)
async def test_ranges(store: Objects, start: int, end: int | None, expected: bytes) -> None:
    await store.put("k", b"0123456789")
    assert await read(store, "k", start, end) == expected


@pytest.mark.parametrize(("start", "end"), [(-1, None), (5, 4)])
async def test_ranges_that_make_no_sense(store: Objects, start: int, end: int | None) -> None:
    await store.put("k", b"0123456789")
    with pytest.raises(BadRequest):
        await read(store, "k", start, end)


async def test_what_is_being_read_stays_as_it_was(store: Objects) -> None:
    await store.put("k", b"o" * 1_000_000)
    reading = store.get("k")
    first = await anext(reading)
    await store.put("k", b"n" * 1_000_000)
    rest = b"".join([chunk async for chunk in reading])
    assert first + rest == b"o" * 1_000_000
    assert await read(store, "k") == b"n" * 1_000_000


async def test_a_missing_key(store: Objects) -> None:
    await store.put("a/b", b"")
    for key in ("nothing", "a", "a/b/c", "a/x"):
        with pytest.raises(NotFound):
            await store.head(key)
        with pytest.raises(NotFound):
            await read(store, key)


async def test_delete(store: Objects) -> None:
    await store.put("a/b/c", b"x")
    await store.put("a/d", b"x")
    await store.delete("a/b/c")
    await store.delete("a/b/c")
    await store.delete("never/was")
    await store.delete("a")
    assert await keys(store) == ["a/d"]


async def test_list_is_by_prefix_and_in_order(store: Objects) -> None:
    for key in ("a/b", "a/bc", "a.txt", "a/b-/x", "b", "é/ü"):
        await store.put(key, b"12345")
    assert await keys(store) == sorted(["a/b", "a/bc", "a.txt", "a/b-/x", "b", "é/ü"], key=str.encode)
    assert await keys(store, "a/b") == ["a/b", "a/b-/x", "a/bc"]
    assert await keys(store, "a/") == ["a/b", "a/b-/x", "a/bc"]
    assert await keys(store, "nothing") == []
    assert [info.size async for info in store.list("b")] == [5]
    assert [info async for info in store.list("b")] == [await store.head("b")]


async def test_a_long_list(store: Objects) -> None:
    await asyncio.gather(*(store.put(f"many/{number:04}", b"") for number in range(600)))
    assert await keys(store, "many/") == [f"many/{number:04}" for number in range(600)]


LEAVING = [
    "../x",
    "a/../../x",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a//b",
    "a/",
    "a/./b",
    "nul\x00byte",
    "line\nend",
]


@pytest.mark.parametrize("key", [*LEAVING, "nul\x00byte", "line\nend", "x" * 1025, "\ud800"])
async def test_a_key_that_leaves_the_store_is_refused(store: Objects, key: str) -> None:
    with pytest.raises(BadRequest):
        await store.put(key, b"x")
    with pytest.raises(BadRequest):
        await store.head(key)
    with pytest.raises(BadRequest):
        await read(store, key)
    with pytest.raises(BadRequest):
        await store.delete(key)


@pytest.mark.parametrize("prefix", ["../", "/etc", "a/../..", "..", "nul\x00"])
async def test_a_prefix_that_leaves_the_store_is_refused(store: Objects, prefix: str) -> None:
    with pytest.raises(BadRequest):
        await keys(store, prefix)


async def test_puts_and_deletes_at_once(store: Objects) -> None:
    async def churn(number: int) -> None:
        for _ in range(10):
            await store.put(f"deep/er/{number}", str(number).encode())
            await store.delete(f"deep/er/{number}")

    await asyncio.gather(*(churn(number) for number in range(8)))
    assert await keys(store) == []


async def test_two_adapters_on_the_same_store(store: Objects, open_store: Open) -> None:
    other = open_store()
    await other.start()
    await store.put("k", b"x")
    assert await read(other, "k") == b"x"
    await other.stop()


async def test_ping_and_stop(store: Objects) -> None:
    await store.ping()
    await store.stop()
    with pytest.raises(Unavailable):
        await store.ping()
    with pytest.raises(Unavailable):
        await store.put("k", b"")
    with pytest.raises(Unavailable):
        await read(store, "k")
