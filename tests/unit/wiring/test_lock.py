import os

import pytest

from moonpool.core.errors import StartupError
from moonpool.wiring import lock as module
from moonpool.wiring.layout import Layout
from moonpool.wiring.lock import InstancesLock, PlatformLock, holder


@pytest.fixture
def layout(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ACQUIRE_SECONDS", 0.0)
    layout = Layout(tmp_path / "data")
    layout.create()
    return layout


def test_no_holder_where_there_is_no_platform(layout, tmp_path):
    assert holder(layout) is None
    assert holder(Layout(tmp_path / "nowhere")) is None
    assert not layout.lock.exists()


def test_a_second_one_is_refused_and_told_who_is_first(layout):
    first, second = PlatformLock(layout), PlatformLock(layout)
    first.acquire()
    assert holder(layout) == os.getpid()
    with pytest.raises(
        StartupError, match=rf"already runs on this data \(pid {os.getpid()}\)(.|\n)*moonpool down"
    ):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_a_stale_pid_names_nobody(layout):
    layout.lock.write_text("1\n")
    assert holder(layout) is None


def test_children_hold_their_lock_by_inheritance(layout):
    earlier = InstancesLock(layout)
    assert earlier.try_exclusive()
    inherited = os.dup(earlier.fd)
    earlier.close()
    later = InstancesLock(layout)
    assert not later.try_exclusive()
    os.close(inherited)
    assert later.try_exclusive()
    later.close()
