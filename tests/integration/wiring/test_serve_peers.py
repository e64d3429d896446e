"""What `moonpool serve` tells of modules that run elsewhere is what they say, not a guess."""

import asyncio
import json
import sys
import types
from pathlib import Path

import pytest

from moonpool.wiring import peers
from moonpool.wiring.layout import Layout
from moonpool.wiring.registry import Module
from moonpool.wiring.serve import ServePlan, _Serving
from moonpool.wiring.topology import read_topology


class Peer:
    """A module's /readyz on a Unix socket."""

    def __init__(self) -> None:
        self.status = "ready"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                body = json.dumps({"status": self.status, "checks": {"model": "loading"}}).encode()
                code = 200 if self.status in ("ready", "degraded") else 503
                writer.write(
                    b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                    % (code, len(body), body)
                )
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


async def test_peers_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(name, settings, sockets, stop, ready) -> None:
        ready()
        await stop.wait()

    monkeypatch.setitem(sys.modules, "dummy_alpha", types.SimpleNamespace(run=run))  # type: ignore[arg-type]
    monkeypatch.setattr(peers, "EVERY", 0.01)
    beta = tmp_path / "beta.sock"
    registry = tuple(Module(name=name, entry="dummy_alpha:run") for name in ("alpha", "beta", "gamma"))
    plan = ServePlan(targets=("alpha",), peers={"beta": f"unix:{beta}"}, registry=registry)
    layout = Layout(tmp_path / "data")
    layout.create()
    serving = _Serving(layout, plan)

    async def until(**wanted: str) -> None:
        async with asyncio.timeout(5.0):
            while True:
                states = {one.name: one.state for one in read_topology(serving._topology.path).modules}
                if states == wanted:
                    return
                await asyncio.sleep(0.01)

    task = asyncio.create_task(serving.run())
    try:
        await until(alpha="ready", beta="unknown", gamma="unknown")
        peer = Peer()
        async with await asyncio.start_unix_server(peer.serve, beta):
            for status, state in (("ready", "ready"), ("unready", "starting"), ("degraded", "degraded")):
                peer.status = status
                await until(alpha="ready", beta=state, gamma="unknown")
        version = read_topology(serving._topology.path).version
        await asyncio.sleep(0.1)
        assert read_topology(serving._topology.path).version <= version + 1  # told when it changes only
    finally:
        serving._stop.begin(1.0)
        await task
