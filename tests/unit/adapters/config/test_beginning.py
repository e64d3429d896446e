"""With what a process starts: the file when it says something new, else what it knew last."""

from pathlib import Path

import pytest

from moonpool.adapters.config.beginning import begin
from moonpool.adapters.config.kept import KeptFile, read_all, read_kept
from moonpool.contracts.documents.wire import Kept, Snapshot, Stored, digest
from moonpool.core.errors import StartupError


def snapshot(port: object, *, file: str = "", epoch: str = "e", sequence: int = 1) -> Snapshot:
    document = Stored(name="platform", version=sequence, content={"gateway": {"port": port}}, author="ann")
    return Snapshot(epoch=epoch, sequence=sequence, file=file, documents=(document,))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "p.yaml"
    file.write_text("gateway: {port: 1}\n")
    return file


def started(*given: object) -> tuple[int, str]:
    beginning = begin(*given)  # type: ignore[arg-type]
    return beginning.config.gateway.port, beginning.origin


def test_a_first_start(file: Path) -> None:
    assert started(None, {}, []) == (8080, "defaults")
    assert started(file, {}, []) == (1, "file")


def test_what_was_changed_since_the_file_was_taken_over_holds(file: Path) -> None:
    known = digest(file.read_bytes())
    assert started(file, {}, [snapshot(2, file=known)]) == (2, "snapshot")
    assert started(None, {}, [snapshot(2, file=known)]) == (2, "snapshot")


def test_a_changed_file_holds(file: Path) -> None:
    assert started(file, {}, [snapshot(2, file="of another one")]) == (1, "file")


def test_the_environment_lies_over_both(file: Path) -> None:
    environ = {"MOONPOOL_GATEWAY__PORT": "9"}
    assert started(file, environ, []) == (9, "file")
    assert started(None, environ, [snapshot(2)]) == (9, "snapshot")


def test_the_newest_snapshot_counts_and_the_servers_epoch(file: Path) -> None:
    assert started(None, {}, [snapshot(2), snapshot(3, sequence=5)])[0] == 3
    assert started(None, {}, [snapshot(2), snapshot(3, sequence=5, epoch="older")])[0] == 2


def test_a_broken_file_beside_a_snapshot_is_told_and_passed_over(file: Path) -> None:
    file.write_text("gateway: {port: many}\n")
    beginning = begin(file, {}, [snapshot(2)])
    assert (beginning.config.gateway.port, beginning.origin) == (2, "snapshot")
    assert f"{file}:1" in beginning.refused


def test_a_broken_file_alone_is_a_startup_error(file: Path) -> None:
    file.write_text("gateway: {port: many}\n")
    with pytest.raises(StartupError, match=r"gateway\.port"):
        begin(file, {}, [])
    with pytest.raises(StartupError):
        begin(file, {}, [snapshot("many")])


def test_a_snapshot_of_another_release_that_cannot_be_used(file: Path) -> None:
    beginning = begin(file, {}, [snapshot("many", file=digest(file.read_bytes()))])
    assert (beginning.config.gateway.port, beginning.origin) == (1, "file")
    assert "gateway.port" in beginning.refused


def test_a_snapshot_of_a_newer_package_is_used_as_far_as_it_is_known(file: Path) -> None:
    kept = snapshot(2, file=digest(file.read_bytes()))
    kept.documents[0].content["orbits"] = {"low": 1}
    assert started(file, {}, [kept]) == (2, "snapshot")
    file.write_text("gateway: {port: 1}\norbits: {low: 1}\n")
    with pytest.raises(StartupError, match="no setting orbits"):
        begin(file, {}, [])


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    kept = Kept(instance="chat-0-1", version=2, pending=("gateway.port",), snapshot=snapshot(2))
    KeptFile(tmp_path, "chat-0").write(kept)
    assert KeptFile(tmp_path, "chat-0").read() == kept
    assert read_kept(tmp_path, "chat-0") == [kept.snapshot]
    assert read_all(tmp_path) == [kept]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', "\x00\xff"])
def test_what_was_damaged_is_passed_over(tmp_path: Path, text: str) -> None:
    KeptFile(tmp_path, "chat").path.write_text(text)
    assert read_kept(tmp_path, "chat") == []


def test_what_cannot_be_kept_stops_nothing(tmp_path: Path) -> None:
    KeptFile(tmp_path / "nowhere", "chat").write(Kept(instance="chat-0-1"))
