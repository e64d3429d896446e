import pytest

from moonpool.ports.discovery import Instance, Topology
from moonpool.wiring.topology import TopologyFile, read_topology, write_topology

ONE = Instance(name="chat", release="v1", instance="chat-0-1", pid=7, state="ready", endpoint="unix:/x")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "topology.json"


def test_what_is_published_is_read(path):
    file = TopologyFile(path)
    file.publish((ONE,))
    assert read_topology(path) == file.current == Topology(1, (ONE,))
    assert [found.name for found in path.parent.iterdir()] == ["topology.json"]


def test_versions_go_on_after_a_restart(path):
    TopologyFile(path).publish((ONE,))
    later = TopologyFile(path)
    assert later.current.modules == ()
    later.publish(())
    assert read_topology(path).version == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_what_is_no_topology_reads_as_empty(path, content):
    path.write_bytes(content)
    assert read_topology(path) == Topology()


def test_a_full_disk_is_made_up_for_later(path):
    file = TopologyFile(path)
    file.path = path.parent / "missing" / "topology.json"
    file.publish((ONE,))
    assert file.stale
    file.path = path
    file.flush()
    assert not file.stale
    assert read_topology(path).modules == (ONE,)


def test_a_failed_write_leaves_nothing(path):
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_topology(path, Topology())
    assert [found.name for found in path.parent.iterdir()] == ["topology.json"]
