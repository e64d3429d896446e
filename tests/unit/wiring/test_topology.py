import msgspec
import pytest

from moonpool.ports.discovery import Instance, Topology
from moonpool.wiring.topology import TopologyFile, amiss, read_topology, write_topology

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


@pytest.mark.parametrize(
    ("states", "ill"),
    [
        ("chat ready", ""),
        ("chat ready, chat draining", ""),
        ("chat ready, chat crashed", "crashed"),
        ("chat ready, auth draining", "draining"),
        ("chat degraded, chat draining", "degraded draining"),
        ("", ""),
    ],
)
def test_what_drains_beside_one_that_is_ready_is_not_amiss(states, ill):
    pairs = [pair.split() for pair in states.split(", ") if pair]
    modules = tuple(msgspec.structs.replace(ONE, name=name, state=state) for name, state in pairs)
    assert [one.state for one in amiss(modules)] == ill.split()


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
