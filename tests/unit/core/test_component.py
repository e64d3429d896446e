import asyncio

import pytest

from moonpool.core.component import Group, State


class Part:
    def __init__(
        self, name: str, log: list[str], *, start: Exception | None = None, stop: Exception | None = None
    ):
        self.name, self.log = name, log
        self.start_error, self.stop_error = start, stop

    async def start(self) -> None:
        self.log.append(f"+{self.name}")
        if self.start_error is not None:
            raise self.start_error

    async def stop(self) -> None:
        self.log.append(f"-{self.name}")
        if self.stop_error is not None:
            raise self.stop_error


async def test_starts_in_order_and_stops_in_reverse() -> None:
    log: list[str] = []
    group = Group([Part(name, log) for name in "abc"])
    assert group.state is State.NEW
    await group.start()
    assert group.state is State.RUNNING
    await group.stop()
    assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]
    assert group.state is State.TERMINATED


async def test_a_failed_start_stops_what_had_begun_and_says_why() -> None:
    log: list[str] = []
    parts = [
        Part("a", log, stop=RuntimeError("also")),
        Part("b", log, start=ValueError("no")),
        Part("c", log),
    ]
    group = Group(parts)
    with pytest.raises(ValueError, match="no"):
        await group.start()
    assert log == ["+a", "+b", "-b", "-a"]
    assert group.state is State.FAILED


async def test_errors_in_stop_do_not_keep_the_others_running() -> None:
    log: list[str] = []
    parts = [
        Part("a", log, stop=ValueError("second")),
        Part("b", log, stop=ValueError("first")),
        Part("c", log),
    ]
    group = Group(parts)
    await group.start()
    with pytest.raises(ValueError, match="first"):
        await group.stop()
    assert log[3:] == ["-c", "-b", "-a"]
    assert group.state is State.FAILED


async def test_stopping_twice_stops_once() -> None:
    log: list[str] = []
    group = Group([Part("a", log)])
    await group.start()
    await group.stop()
    await group.stop()
    assert log == ["+a", "-a"]


async def test_a_cancelled_start_is_taken_back() -> None:
    log: list[str] = []
    hanging = Part("b", log)
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    hanging.start = hang  # type: ignore[method-assign]
    group = Group([Part("a", log), hanging])
    task = asyncio.create_task(group.start())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["+a", "-b", "-a"]
