import json
from pathlib import Path

import pytest

from moonpool.contracts.releases import CommandSource, Overrides, PackageSource, Release, sealed
from moonpool.core.errors import NotFound, StartupError, Unavailable
from moonpool.ports.discovery import Instance
from moonpool.wiring.layout import Layout
from moonpool.wiring.shelf import Desired, Shelf, known_module
from moonpool.wiring.topology import TopologyFile

V2 = Release(service="chat", label="v2", overrides=Overrides(environment={"A": "1"}))


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "data")
    layout.create()
    return layout


@pytest.fixture
def shelf(layout):
    return Shelf(layout)


def test_what_is_told_is_found_by_whoever_looks(shelf, layout):
    assert shelf.follow("chat", [V2], 7.0) == ()
    assert Shelf(layout).find("chat", "v2") == sealed(V2)
    assert shelf.releases().releases[0].since == 7.0
    assert [one.label for one in shelf.all("chat")] == ["v1", "v2"]
    assert shelf.labels("chat") == ("v2",)
    before = (layout.releases / "list.json").stat()
    assert shelf.follow("chat", [V2], 8.0) == ()
    assert (layout.releases / "list.json").stat() == before


def test_modules_do_not_disturb_each_other(shelf):
    other = Release(service="auth", label="v9", created=3.0)
    shelf.follow("chat", [V2], 7.0)
    shelf.follow("auth", [other], 8.0)
    shelf.follow("chat", [], 9.0)
    assert [one.release.name for one in shelf.releases().releases] == ["auth@v9"]


def test_the_first_release_is_there_without_being_added(shelf):
    assert shelf.find("chat", "v1").source == PackageSource()


def test_what_is_not_there(shelf):
    with pytest.raises(NotFound):
        shelf.find("chat", "v9")
    with pytest.raises(NotFound):
        known_module("nosuch")


def test_what_should_run_is_kept_and_names_known_releases_only(shelf, layout):
    shelf.follow("chat", [V2], 0.0)
    shelf.want("chat", {"v1": 1, "v2": 2})
    assert Shelf(layout).desired() == Desired({"chat": {"v1": 1, "v2": 2}})
    with pytest.raises(NotFound):
        shelf.want("chat", {"v3": 1})
    assert shelf.desired().modules["chat"] == {"v1": 1, "v2": 2}
    shelf.want("chat", None)
    assert shelf.desired() == Desired()


def test_what_runs_or_should_stays_until_it_does_not(shelf, layout):
    shelf.follow("chat", [V2], 0.0)
    shelf.want("chat", {"v2": 1})
    assert shelf.follow("chat", [], 1.0) == ("v2",)
    shelf.want("chat", None)
    draining = Instance(name="chat", release="v2", instance="chat-1-a", pid=1, state="draining", endpoint="")
    TopologyFile(layout.topology).publish((draining,))
    assert shelf.follow("chat", [], 1.0) == ("v2",)
    assert shelf.find("chat", "v2") == sealed(V2)
    TopologyFile(layout.topology).publish(())
    assert shelf.follow("chat", [], 1.0) == ()
    assert shelf.releases().releases == ()


def test_a_label_that_runs_keeps_its_meaning(shelf):
    other = Release(service="chat", label="v2", source=CommandSource(argv=("x",)))
    shelf.follow("chat", [V2], 0.0)
    shelf.want("chat", {"v2": 1})
    assert shelf.follow("chat", [other], 1.0) == ("v2",)
    assert shelf.find("chat", "v2") == sealed(V2)
    shelf.want("chat", None)
    assert shelf.follow("chat", [other], 1.0) == ()
    assert shelf.find("chat", "v2") == sealed(other)


def built(shelf, label="v2"):
    venv = shelf.place("chat", label) / "venv"
    venv.mkdir(parents=True)
    return venv


def test_what_was_built_goes_at_once_and_is_swept_up(shelf, layout):
    venv = built(shelf)
    shelf.follow("chat", [V2], 0.0)
    shelf.follow("chat", [], venv.stat().st_mtime + 1)
    assert not venv.exists()
    assert not shelf.place("chat", "v2").exists()
    shelf.sweep()
    assert list((layout.releases / "chat").iterdir()) == []


def test_what_is_built_for_a_successor_stays(shelf):
    shelf.follow("chat", [V2], 0.0)
    venv = built(shelf)
    shelf.follow("chat", [], venv.stat().st_mtime - 1)
    assert venv.exists()
    assert shelf.labels("chat") == ()


def test_what_cannot_be_put_away_changes_nothing(shelf, monkeypatch):
    venv = built(shelf)
    shelf.follow("chat", [V2], 0.0)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(Unavailable, match="Permission denied"):
        shelf.follow("chat", [], venv.stat().st_mtime + 1)
    assert shelf.labels("chat") == ("v2",)


def test_a_damaged_file_is_told_and_not_guessed_about(shelf, layout):
    (layout.releases / "desired.json").write_text("{")
    with pytest.raises(StartupError, match=r"desired\.json"):
        shelf.desired()


def test_a_disk_that_refuses_changes_nothing(shelf, layout, monkeypatch):
    shelf.want("chat", {"v1": 2})

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        shelf.want("chat", {"v1": 3})
    assert json.loads((layout.releases / "desired.json").read_text()) == {"modules": {"chat": {"v1": 2}}}
    assert sorted(path.name for path in layout.releases.iterdir()) == ["desired.json", "lock"]
