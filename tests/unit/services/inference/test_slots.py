"""Admission: order, bounds, and that no slot is ever lost."""

import asyncio

import pytest

from moonpool.core.clock import ManualClock
from moonpool.core.errors import Overloaded
from moonpool.services.inference.slots import Slots


@pytest.fixture
def slots(clock: ManualClock) -> Slots:
    return Slots(running=1, waiting=2, clock=clock)


class Request:
    """A task that holds a slot until it is released."""

    def __init__(self, slots: Slots, log: list[str], name: str) -> None:
        self._release = asyncio.Event()
        self._slots, self._log, self._name = slots, log, name
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self._slots.slot():
            self._log.append(self._name)
            await self._release.wait()

    def release(self) -> None:
        self._release.set()


async def test_first_come_first_served(slots: Slots, settle) -> None:
    log: list[str] = []
    requests = [Request(slots, log, name) for name in "abc"]
    for index in range(3):
        await settle()
        assert log == list("abc")[: index + 1]
        assert (slots.running, slots.waiting) == (1, 2 - index)
        requests[index].release()
    await settle()
    assert (slots.running, slots.waiting) == (0, 0)


async def test_one_too_many_is_refused_at_once_with_a_time(slots: Slots, settle) -> None:
    requests = [Request(slots, [], name) for name in "abc"]
    await settle()
    with pytest.raises(Overloaded) as caught:
        async with slots.slot():
            pass
    assert caught.value.code == "server_is_overloaded"
    assert caught.value.retry_after == pytest.approx(6.0)  # three ahead of it, two seconds each
    assert (slots.running, slots.waiting) == (1, 2)
    for request in requests:
        request.task.cancel()


async def test_who_leaves_the_queue_is_forgotten(slots: Slots, settle) -> None:
    log: list[str] = []
    first, leaves, last = (Request(slots, log, name) for name in "abc")
    await settle()
    leaves.task.cancel()
    await settle()
    assert slots.waiting == 1
    first.release()
    await settle()
    assert log == ["a", "c"]
    last.release()
    await settle()
    assert slots.running == 0


async def test_leaving_in_the_moment_of_the_handover_passes_the_slot_on(slots: Slots, settle) -> None:
    log: list[str] = []
    first, unlucky, last = (Request(slots, log, name) for name in "abc")
    await settle()
    first.release()
    await asyncio.sleep(0)  # the slot is handed over, but its new holder has not run yet
    unlucky.task.cancel()
    await settle()
    assert log[-1] == "c"
    last.release()
    await settle()
    assert (slots.running, slots.waiting) == (0, 0)


async def test_a_release_passes_over_who_has_just_left(slots: Slots, settle) -> None:
    log: list[str] = []
    first, leaves, last = (Request(slots, log, name) for name in "abc")
    await settle()
    first.release()
    leaves.task.cancel()
    await settle()
    assert log == ["a", "c"]
    last.release()
    await settle()
    assert slots.running == 0


async def test_a_failure_gives_the_slot_back(slots: Slots) -> None:
    with pytest.raises(ZeroDivisionError):
        async with slots.slot():
            raise ZeroDivisionError
    assert slots.running == 0


async def test_the_estimate_follows_measured_durations(slots: Slots, clock: ManualClock) -> None:
    assert slots.wait_estimate() == 0.0
    for _ in range(40):
        async with slots.slot():
            clock.advance(10)
    async with slots.slot():
        assert slots.wait_estimate() == pytest.approx(10, rel=0.01)
