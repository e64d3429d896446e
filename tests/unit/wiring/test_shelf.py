import json

import pytest

from moonpool.contracts.releases import CommandSource, Overrides, PackageSource, Release
from moonpool.core.errors import Conflict, NotFound, StartupError, Unavailable, Unprocessable
from moonpool.ports.discovery import Instance
from moonpool.upgrade.release import Retention
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


def test_what_was_added_is_found_by_whoever_looks(shelf, layout):
    kept = shelf.add(V2, 7.0)
    assert kept.digest
    assert Shelf(layout).find("chat", "v2") == kept
    assert shelf.add(V2, 8.0) == kept
    assert [one.label for one in shelf.all("chat")] == ["v1", "v2"]


def test_the_first_release_is_there_without_being_added(shelf):
    assert shelf.find("chat", "v1").source == PackageSource()
    with pytest.raises(Conflict):
        shelf.add(Release(service="chat", label="v1"), 0.0)


def test_a_label_keeps_its_meaning(shelf):
    shelf.add(V2, 0.0)
    other = Release(service="chat", label="v2", source=CommandSource(argv=("x",)))
    for refuse in (lambda: shelf.add(other, 1.0), lambda: shelf.check(other)):
        with pytest.raises(Conflict):
            refuse()
    with pytest.raises(Conflict):
        shelf.check(V2, built=False)
    shelf.check(V2)


def test_what_cannot_be_is_refused(shelf):
    with pytest.raises(Unprocessable):
        shelf.add(Release(service="nosuch", label="v2"), 0.0)
    with pytest.raises(NotFound):
        shelf.find("chat", "v9")
    with pytest.raises(NotFound):
        known_module("nosuch")


def test_what_should_run_is_kept_and_names_known_releases_only(shelf, layout):
    shelf.add(V2, 0.0)
    shelf.want("chat", {"v1": 1, "v2": 2})
    assert Shelf(layout).desired() == Desired({"chat": {"v1": 1, "v2": 2}})
    with pytest.raises(NotFound):
        shelf.want("chat", {"v3": 1})
    assert shelf.desired().modules["chat"] == {"v1": 1, "v2": 2}
    shelf.want("chat", None)
    assert shelf.desired() == Desired()


def test_what_runs_or_should_is_neither_removed_nor_collected(shelf, layout):
    everything = Retention(keep=0, age=0.0)
    shelf.add(V2, 0.0)
    shelf.want("chat", {"v2": 1})
    with pytest.raises(Conflict):
        shelf.remove("chat", "v2")
    assert shelf.collect(1.0, everything) == ()
    shelf.want("chat", None)
    draining = Instance(name="chat", release="v2", instance="chat-1-a", pid=1, state="draining", endpoint="")
    TopologyFile(layout.topology).publish((draining,))
    with pytest.raises(Conflict):
        shelf.remove("chat", "v2")
    TopologyFile(layout.topology).publish(())
    shelf.place("chat", "v2").mkdir(parents=True)
    assert [one.label for one in shelf.collect(1.0, everything)] == ["v2"]
    assert not shelf.place("chat", "v2").exists()
    assert shelf.releases().releases == ()


def test_removed(shelf):
    shelf.add(V2, 0.0)
    shelf.place("chat", "v2").mkdir(parents=True)
    shelf.remove("chat", "v2")
    assert not shelf.place("chat", "v2").exists()
    with pytest.raises(NotFound):
        shelf.find("chat", "v2")


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
