"""Following a file by its inode, size and time."""

import asyncio
import os
from pathlib import Path

from moonpool.adapters.stat_poll import StatPoll, signature

INTERVAL = 0.01


class Told:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[None] = asyncio.Queue()

    def __call__(self) -> None:
        self.queue.put_nowait(None)

    async def once(self) -> None:
        await asyncio.wait_for(self.queue.get(), 5)

    async def never(self) -> None:
        await asyncio.sleep(10 * INTERVAL)
        assert self.queue.empty()


async def test_every_kind_of_write_is_seen(tmp_path: Path) -> None:
    file, told = tmp_path / "f", Told()
    poll = StatPoll(file, told, interval=INTERVAL)
    poll.start(signature(file))
    await told.never()
    file.write_text("new")
    await told.once()
    (tmp_path / "g").write_text("old")
    os.replace(tmp_path / "g", file)  # same size
    await told.once()
    file.unlink()
    await told.once()
    assert signature(file) is None
    await told.never()
    poll.stop()
    file.write_text("x")
    await told.never()


async def test_a_change_between_reading_and_starting_is_seen(tmp_path: Path) -> None:
    file, told = tmp_path / "f", Told()
    known = signature(file)
    file.write_text("x")
    poll = StatPoll(file, told, interval=INTERVAL)
    poll.start(known)
    await told.once()
    poll.stop()


async def test_it_waits_until_the_writer_is_done(tmp_path: Path) -> None:
    """Between each two looks a byte more, until there are enough."""
    file, sizes, looks = tmp_path / "f", list[int](), 0
    file.touch()
    last = signature(file)

    class Growing(StatPoll):
        def _look(self) -> None:
            nonlocal looks
            looks += 1
            if looks <= 20:
                with file.open("ab") as writing:
                    writing.write(b"x")
            super()._look()

    poll = Growing(file, lambda: sizes.append(file.stat().st_size), interval=0.001, settle=True)
    poll.start(last)
    async with asyncio.timeout(10):
        while looks < 30:
            await asyncio.sleep(0.001)
    poll.stop()
    assert sizes == [20]


async def test_a_callback_that_fails_does_not_end_it(tmp_path: Path) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    told = Told()

    def fail() -> None:
        told()
        raise ZeroDivisionError

    poll = StatPoll(tmp_path / "f", fail, interval=INTERVAL)
    poll.start(None)
    for text in ("a", "bc"):
        (tmp_path / "f").write_text(text)
        await told.once()
    poll.stop()
