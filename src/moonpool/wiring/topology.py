"""The topology file: how gateway, services and `moonpool status` learn who runs where."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from moonpool.ports.discovery import Instance, Topology

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Topology)


def read_topology(path: Path) -> Topology:
    """Empty when there is no file or it is not one of ours."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return _decoder.decode(path.read_bytes())
    return Topology()


def amiss(modules: Sequence[Instance]) -> tuple[Instance, ...]:
    """Those that are not as they should be: neither ready, nor draining beside one that is. What was replaced
    drains for as long as its requests last."""
    ready = {one.name for one in modules if one.state == "ready"}
    return tuple(
        one for one in modules if one.state != "ready" and not (one.state == "draining" and one.name in ready)
    )


def write_topology(path: Path, topology: Topology) -> None:
    """In one step: a reader sees the old one or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(_encoder.encode(topology))
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


class TopologyFile:
    """The one writer. Versions go on from where an earlier supervisor left off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.current = Topology(version=read_topology(path).version)
        self.stale = False
        """Whether the file lags behind, since it could not be written (a full disk); written again later."""

    def publish(self, modules: tuple[Instance, ...]) -> None:
        self.current = Topology(self.current.version + 1, modules)
        self.flush()

    def flush(self) -> None:
        try:
            write_topology(self.path, self.current)
        except OSError:
            self.stale = True
        else:
            self.stale = False
