import os
from collections.abc import Iterator
from multiprocessing import resource_tracker

import pytest

from moonpool.adapters.spawner import tracker


@pytest.fixture(autouse=True)
def own_tracker(monkeypatch: pytest.MonkeyPatch) -> Iterator[resource_tracker.ResourceTracker]:
    own = resource_tracker.ResourceTracker()
    monkeypatch.setattr(resource_tracker, "_resource_tracker", own)
    yield own
    fd = own._fd  # type: ignore[attr-defined]
    if fd is not None:
        os.close(fd)


def test_who_asks_for_it_starts_no_process(own_tracker: resource_tracker.ResourceTracker) -> None:
    tracker.start_none()
    own_tracker.ensure_running()
    assert own_tracker._pid is None  # type: ignore[attr-defined]
    own_tracker.register("/name", "semaphore")  # goes nowhere, and raises nothing
    assert os.fstat(own_tracker.getfd() or -1).st_rdev == os.stat(os.devnull).st_rdev


def test_one_that_runs_is_left_alone(own_tracker: resource_tracker.ResourceTracker) -> None:
    tracker.start_none()
    fd = own_tracker.getfd()
    tracker.start_none()
    assert own_tracker.getfd() == fd


def test_a_child_may_start_its_own(own_tracker: resource_tracker.ResourceTracker) -> None:
    tracker.start_none()
    fd = own_tracker.getfd() or -1
    tracker.forget_none()
    assert own_tracker._fd is None  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    tracker.forget_none()  # a child that was given none
