import errno
import os
import stat
from pathlib import Path

import pytest

from moonpool.core.errors import StartupError
from moonpool.wiring.layout import FOLDERS, Layout, default_data


def test_the_default_is_the_environments_or_in_the_home(monkeypatch):
    monkeypatch.delenv("MOONPOOL_DATA", raising=False)
    assert default_data() == Path.home() / ".moonpool"
    monkeypatch.setenv("MOONPOOL_DATA", "/srv/moonpool")
    assert default_data() == Path("/srv/moonpool")


def test_everything_lies_below_the_root(tmp_path):
    layout = Layout(tmp_path)
    assert layout.topology == tmp_path / "run" / "topology.json"
    assert layout.root_key == tmp_path / "secrets" / "root.key"
    assert layout.log("chat") == tmp_path / "logs" / "chat.log"


def test_the_root_is_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Layout(Path("data")).root == tmp_path / "data"


def test_folders_are_private(tmp_path):
    layout = Layout(tmp_path / "a" / "data")
    layout.create()
    layout.create()
    for folder in ("", *FOLDERS):
        assert stat.S_IMODE((layout.root / folder).stat().st_mode) == 0o700
    assert list(layout.run.iterdir()) == []


def test_an_open_root_is_closed(tmp_path):
    (tmp_path / "data").mkdir(mode=0o755)
    layout = Layout(tmp_path / "data")
    layout.create()
    assert stat.S_IMODE(layout.root.stat().st_mode) == 0o700


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StartupError, match=r"the disk is full\n.*--data"):
        Layout(tmp_path / "data").create()
