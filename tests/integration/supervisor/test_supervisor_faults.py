"""What is killed, hung, broken or taken."""

import asyncio
import os
import signal
import socket

import pytest
from msgspec import structs

from moonpool.core.errors import StartupError
from moonpool.wiring.layout import Layout
from moonpool.wiring.lock import PlatformLock, holder
from moonpool.wiring.supervisor import Plan, Supervisor


class Load:
    """Clients that each open a connection a request, until told to stop."""

    def __init__(self, get, endpoint, clients=8):
        self._get = get
        self._endpoint = endpoint
        self.answered = 0
        self.refused = []
        self.cut = 0
        self._tasks = [asyncio.create_task(self._client()) for _ in range(clients)]

    async def _client(self):
        while True:
            try:
                await self._get(self._endpoint, "/pid")
                self.answered += 1
            except (ConnectionRefusedError, FileNotFoundError) as error:
                self.refused.append(error)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.cut += 1  # it was being served by the process that was killed

    async def stop(self):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.mark.parametrize("entry", ["run", "run_uvicorn"])
@pytest.mark.parametrize("name", ["front", "beta"])
async def test_killing_a_child_under_load_refuses_nobody(platform, find, until, get, entry, name):
    modules = tuple(
        _module(other, public=other == "front", entry=f"dummy_modules:{entry}") for other in ("front", "beta")
    )
    async with platform(modules=modules) as supervisor:
        load = Load(get, find(supervisor, name).endpoint)
        others = {i.name: i.pid for i in supervisor.instances if i.name != name}
        for _ in range(3):
            answered, pid = load.answered, find(supervisor, name).pid
            await until(lambda answered=answered: load.answered > answered + 20)
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: find(supervisor, name).pid not in (0, pid))
            await until(lambda: find(supervisor, name).state == "ready")
        await load.stop()
        assert load.refused == []
        assert find(supervisor, name).restarts == 3
        assert others == {i.name: i.pid for i in supervisor.instances if i.name != name}


@pytest.mark.parametrize("entry", ["run", "run_uvicorn"])
async def test_a_socket_outlives_a_child_that_ends_well(platform, find, until, get, entry):
    async with platform(modules=(_module("beta", entry=f"dummy_modules:{entry}"),)) as supervisor:
        before = find(supervisor, "beta")
        os.kill(before.pid, signal.SIGTERM)
        await until(lambda: find(supervisor, "beta").pid not in (0, before.pid))
        assert await get(before.endpoint, "/pid") == str(find(supervisor, "beta").pid)


async def test_a_killed_fork_server_is_replaced(platform, find, until, get):
    from multiprocessing import forkserver

    async with platform() as supervisor:
        pids = [instance.pid for instance in supervisor.instances]
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
        await asyncio.sleep(0.1)
        assert [instance.pid for instance in supervisor.instances] == pids
        for name in ("beta", "alpha"):  # orphans: their end is seen all the same
            pid = find(supervisor, name).pid
            os.kill(pid, signal.SIGKILL)
            await until(lambda name=name, pid=pid: find(supervisor, name).pid not in (0, pid))
            await until(lambda name=name: find(supervisor, name).state == "ready")
            assert await get(find(supervisor, name).endpoint, "/pid") != str(pid)


async def test_a_crash_loop_is_slowed_down_and_told(platform, behave, find, until):
    async with platform(wait=False, config=behave(beta={"fall": "no such luck"})) as supervisor:
        await until(lambda: find(supervisor, "beta").restarts >= 4)
        await until(lambda: find(supervisor, "beta").state == "crashed")
        assert find(supervisor, "beta").reason == "exit code 1: fell: ValueError: no such luck"
        await until(lambda: find(supervisor, "alpha").state == "ready")


async def test_a_module_that_cannot_start_makes_the_start_fail(platform, behave, layout):
    with pytest.raises(StartupError, match=r"beta cannot start: beta.db: the disk is upside down\n.*Mend it"):
        async with platform(config=behave(beta={"refuse": "the disk is upside down"})):
            pass
    assert holder(layout) is None


async def test_a_module_that_cannot_start_again_is_tried_at_long_intervals(platform, behave, find, until):
    async with platform(config=behave()) as supervisor:
        behave(beta={"refuse": "the disk is upside down"})
        os.kill(find(supervisor, "beta").pid, signal.SIGKILL)
        await until(lambda: "upside down" in find(supervisor, "beta").reason)
        behave()
        await until(lambda: find(supervisor, "beta").state == "ready")


async def test_a_stuck_process_is_replaced(platform, behave, find, until, tmp_path, keeping):
    trigger = tmp_path / "deaf"
    hasty = structs.replace(keeping, probe_timeout=0.3, live_timeout=0.9)
    async with platform(config=behave(beta={"deaf": str(trigger)}), keeping=hasty) as supervisor:
        pid = find(supervisor, "beta").pid
        trigger.touch()
        await until(lambda: find(supervisor, "beta").pid not in (0, pid))
        trigger.unlink()
        await until(lambda: find(supervisor, "beta").state == "ready")


async def test_a_second_supervisor_is_refused(platform, layout):
    async with platform():
        with pytest.raises(StartupError, match=rf"already runs on this data \(pid {os.getpid()}\)"):
            await Supervisor(layout, Plan(modules=(), port=0)).prepare()


async def test_a_taken_port_is_told_with_its_owner(layout):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        supervisor = Supervisor(layout, Plan(modules=(_module("front", public=True),), port=port))
        with pytest.raises(StartupError, match=rf"taken by .*\(pid {os.getpid()}\)(.|\n)*--port"):
            await supervisor.prepare()
    assert holder(layout) is None
    assert not layout.root_key.exists()


async def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"cannot be used(.|\n)*--data"):
        await Supervisor(Layout(tmp_path / "file" / "data"), Plan(modules=())).prepare()


async def test_the_lock_goes_with_its_holder(layout):
    layout.create()
    lock = PlatformLock(layout)
    lock.acquire()
    assert holder(layout) == os.getpid()
    lock.release()
    assert holder(layout) is None


async def test_logs_are_bounded(platform, layout, find, until):
    async with platform(log_max_bytes=1000, upkeep_every=0.02):
        with layout.log("beta").open("ab") as log:
            log.write(b"x" * 2000)
        await until(lambda: layout.log("beta").with_name("beta.log.1").exists())
        await until(lambda: layout.log("beta").stat().st_size == 0)


def _module(name, **options):
    from moonpool.wiring.registry import Module

    return Module(name=name, **{"entry": "dummy_modules:run", **options})


async def test_what_a_starting_module_logs_is_its_progress(platform, behave, find, until):
    config = behave(beta={"load": 60.0})
    async with platform(wait=False, config=config) as supervisor:
        await until(lambda: find(supervisor, "beta").reason == "beta loads")
        assert find(supervisor, "beta").state == "starting"
        start = asyncio.get_running_loop().time()
    # It had nothing to drain, so nobody waited for the end of its load.
    assert asyncio.get_running_loop().time() - start < 30.0


async def test_the_reason_of_a_crash_is_told_until_it_is_ready_again(platform, behave, find, until, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    async with platform(config=behave(beta={"unready_until": str(gate)})) as supervisor:
        gate.unlink()
        os.kill(find(supervisor, "beta").pid, signal.SIGKILL)
        await until(lambda: find(supervisor, "beta").state == "starting")
        assert find(supervisor, "beta").reason == "before: killed by SIGKILL"
        gate.touch()
        await until(lambda: find(supervisor, "beta").state == "ready")
        assert find(supervisor, "beta").reason == ""
