"""The topology's file itself."""

import asyncio
from pathlib import Path

import pytest

from moonpool.adapters.discovery.file import FileDiscovery, write_topology
from moonpool.ports.discovery import Instance, Topology

TOPOLOGY = Topology(
    7,
    (
        Instance(
            name="chat",
            release="v1",
            instance="chat-0-1",
            pid=1,
            state="crashed",
            endpoint="unix:/x",
            reason="…",
        ),
    ),
)


async def read(path: Path) -> Topology:
    discovery = FileDiscovery(path, interval=0.01)
    await discovery.start()
    await discovery.stop()
    return discovery.current


async def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_topology(tmp_path / "t.json", TOPOLOGY)
    assert await read(tmp_path / "t.json") == TOPOLOGY
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "t.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_topology(tmp_path / "t.json", TOPOLOGY)
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


@pytest.mark.parametrize("broken", [b"", b"{", b"[]", b'{"version": "x"}', b"\xff"])
async def test_a_broken_file_changes_nothing(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "t.json"
    write_topology(path, TOPOLOGY)
    discovery = FileDiscovery(path, interval=0.01)
    await discovery.start()
    path.write_bytes(broken)
    await asyncio.sleep(0.05)
    assert discovery.current == TOPOLOGY
    await discovery.stop()


async def test_the_same_topology_is_not_told_again(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    write_topology(path, TOPOLOGY)
    discovery = FileDiscovery(path, interval=0.01)
    await discovery.start()
    told: list[Topology] = []
    discovery.subscribe(told.append)
    write_topology(path, TOPOLOGY)
    await asyncio.sleep(0.05)
    await discovery.stop()
    assert told == []
