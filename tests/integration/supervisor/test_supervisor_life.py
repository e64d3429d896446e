"""Start, ready, stop."""

import asyncio
import json
import os
import stat
from urllib.parse import urlsplit

import psutil
import pytest

from moonpool.wiring.listening import HEARD
from moonpool.wiring.lock import holder
from moonpool.wiring.topology import read_topology


async def test_everything_starts_serves_and_ends(platform, layout, get, find):
    async with platform() as supervisor:
        assert holder(layout) == os.getpid()
        assert {instance.state for instance in supervisor.instances} == {"ready"}
        told = read_topology(layout.topology)
        assert told.modules == supervisor.instances
        for instance in told.modules:
            assert await get(instance.endpoint, "/pid") == str(instance.pid)
        pids = [instance.pid for instance in told.modules]
    assert holder(layout) is None
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert {instance.state for instance in read_topology(layout.topology).modules} == {"stopped"}
    assert list(layout.run.glob("*.sock")) == []


async def test_a_child_knows_the_least_it_needs(platform, layout, get, find):
    async with platform() as supervisor:
        alpha = json.loads(await get(find(supervisor, "alpha").endpoint, "/settings"))
        beta = json.loads(await get(find(supervisor, "beta").endpoint, "/settings"))
        assert (alpha["calls"], alpha["own"]) == (["beta"], [])
        assert (beta["calls"], beta["own"]) == ([], ["pepper"])
        assert alpha["umask"] == 0o077
        assert alpha["instance"] == find(supervisor, "alpha").instance
        process = psutil.Process(find(supervisor, "alpha").pid)
        root = layout.root_key.read_bytes()
        assert root.hex() not in " ".join(process.cmdline())
    assert stat.S_IMODE(layout.root_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.root.stat().st_mode) == 0o700


async def test_a_given_secret_reaches_no_childs_environment(platform, layout, monkeypatch):
    monkeypatch.setenv("MOONPOOL_SECRET", "0123456789abcdef" * 4)
    async with platform() as supervisor:
        for instance in supervisor.instances:
            assert "MOONPOOL_SECRET" not in psutil.Process(instance.pid).environ()
        assert not layout.root_key.exists()


async def test_what_children_print_is_in_their_logs(platform, layout):
    async with platform():
        pass
    text = layout.log("alpha").read_text()
    assert "alpha prints" in text
    events = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert [event["event"] for event in events] == ["serving", "ended"]
    assert events[0]["module"] == "alpha"
    assert events[0]["instance"].startswith("alpha-0-")


async def test_callers_are_drained_before_what_they_call(platform, behave):
    ended = []
    async with platform(config=behave(front={"linger": 0.2}, alpha={"linger": 0.1})) as supervisor:
        supervisor.observe(lambda instance: instance.state == "stopped" and ended.append(instance.name))
    assert ended == ["front", "alpha", "beta"]


async def test_clients_are_refused_when_nobody_will_accept_them(platform, behave, find, until):
    """Neither left waiting while what runs ends, nor while those below the gateways drain."""

    async def come_too_late(supervisor, address):
        for drains in ("front", "beta"):
            await until(lambda drains=drains: find(supervisor, drains).state == "draining")
            await asyncio.sleep(HEARD + 0.05 if drains == "front" else 0.0)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(address.hostname, address.port)

    async with platform(config=behave(front={"linger": 0.4}, beta={"linger": 0.3})) as supervisor:
        late = asyncio.create_task(come_too_late(supervisor, urlsplit(supervisor.url)))
    await late


async def test_replicas_share_the_public_socket(platform, get):
    async with platform(replicas={"front": 2}) as supervisor:
        fronts = [instance for instance in supervisor.instances if instance.name == "front"]
        assert len({instance.instance for instance in fronts}) == 2
        assert {instance.endpoint for instance in fronts} == {supervisor.url}
        assert await get(supervisor.url, "/pid") in {str(instance.pid) for instance in fronts}


async def test_progress_is_told_while_a_module_loads(platform, behave, tmp_path, until, find):
    gate = tmp_path / "gate"
    async with platform(wait=False, config=behave(beta={"unready_until": str(gate)})) as supervisor:
        await until(lambda: find(supervisor, "beta").reason == "model: loading 42 %")
        assert find(supervisor, "beta").state == "starting"
        gate.touch()
        await until(lambda: find(supervisor, "beta").state == "ready")
        assert find(supervisor, "beta").reason == ""


async def test_the_start_waits_for_modules_that_miss_each_other(platform, behave, tmp_path, until, find):
    gate = tmp_path / "gate"
    config = behave(beta={"degraded_until": str(gate)})
    async with platform(wait=False, config=config) as supervisor:
        waiting = asyncio.create_task(supervisor.wait_ready())
        await until(lambda: find(supervisor, "beta").state == "degraded")
        await until(lambda: find(supervisor, "front").state == "ready")
        assert find(supervisor, "beta").reason == "alpha: away"
        assert not waiting.done()
        gate.touch()
        await asyncio.wait_for(waiting, 5)
        assert find(supervisor, "beta").state == "ready"


async def test_the_start_does_not_wait_for_ever_for_a_degraded_module(platform, behave, tmp_path, find):
    config = behave(beta={"degraded_until": str(tmp_path / "never")})
    async with platform(config=config, degraded_patience=0.1) as supervisor:
        assert find(supervisor, "beta").state == "degraded"


async def test_a_path_too_long_for_a_socket(platform, tmp_path, get):
    from moonpool.wiring.layout import Layout

    layout = Layout(tmp_path / ("d" * 90) / "data")
    async with platform(on=layout) as supervisor:
        endpoint = supervisor.instances[-1].endpoint
        assert len(endpoint) < 100
        assert await get(endpoint, "/pid")
        from pathlib import Path

        folder = Path(endpoint.removeprefix("unix:")).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()
