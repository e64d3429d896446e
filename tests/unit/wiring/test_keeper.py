"""A slot with a spawner that starts nothing: the processes end when the test says so."""

import asyncio

import pytest
from msgspec import structs

from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.core.errors import Unavailable
from moonpool.wiring.backoff import Backoff
from moonpool.wiring.keeper import Keeper, KeeperSettings, Probe, Slot
from moonpool.wiring.listening import bind_unix
from moonpool.wiring.runner import EX_CONFIG


class Process:
    def __init__(self, pid, failure):
        self.pid = pid
        self.failure = failure
        self.ended = asyncio.get_running_loop().create_future()
        self.told = []

    async def wait(self):
        return await asyncio.shield(self.ended)

    def end(self, code):
        if not self.ended.done():
            self.ended.set_result(code)

    def terminate(self):
        self.told.append("terminate")

    def kill(self):
        self.told.append("kill")
        self.end(-9)


class Spawner:
    def __init__(self):
        self.processes = []
        self.failure = ""
        self.away = False
        self.spawned = asyncio.Event()

    async def start(self): ...

    async def stop(self): ...

    async def spawn(self, spec, sockets):
        self.spawned.set()
        if self.away:
            raise Unavailable("no process could be started: no memory")
        process = Process(100 + len(self.processes), self.failure)
        self.processes.append(process)
        return process

    async def next(self, number):
        while len(self.processes) <= number:
            await asyncio.sleep(0)
        return self.processes[number]


@pytest.fixture
def keeping(tmp_path):
    """Keeper, spawner, and the states the keeper told."""

    def make(sockets=(), **settings):
        told = []
        spawner = Spawner()
        settings = KeeperSettings(backoff_most=0.001, probe_starting=0.001, **settings)
        keeper = Keeper(
            Slot(
                name="chat",
                release="v1",
                number=0,
                endpoint="unix:x",
                probe=Probe(endpoint=f"unix:{tmp_path}/x.sock"),
                sockets=sockets,
                log=tmp_path / "chat.log",
                drain_timeout=0.0,
            ),
            spawner,
            settings=settings,
            clock=SYSTEM_CLOCK,
            backoff=Backoff(first=0.0, most=0.0, healthy=1.0, clock=SYSTEM_CLOCK, random=lambda: 0.0),
            generation=iter("abcdefgh").__next__,
            changed=lambda instance: told.append((instance.state, instance.reason)),
        )
        keeper.start()
        return keeper, spawner, told

    return make


async def test_what_ends_is_started_again(keeping):
    keeper, spawner, told = keeping()
    (await spawner.next(0)).end(1)
    (await spawner.next(1)).end(-9)
    third = await spawner.next(2)
    await asyncio.sleep(0)
    assert keeper.instance.restarts == 2
    assert keeper.instance.instance == "chat-0-c"
    assert keeper.instance.pid == third.pid
    assert told == [
        ("starting", ""),
        ("crashed", "exit code 1"),
        ("starting", "before: exit code 1"),
        ("crashed", "killed by SIGKILL"),
        ("starting", "before: killed by SIGKILL"),
    ]
    asyncio.get_running_loop().call_soon(third.end, 0)
    await keeper.stop()
    assert third.told == ["terminate"]
    assert told[-2:] == [("draining", ""), ("stopped", "")]


async def test_what_cannot_start_is_tried_once_at_the_first_start(keeping):
    keeper, spawner, told = keeping()
    spawner.failure = "db: is newer"
    (await spawner.next(0)).end(EX_CONFIG)
    await asyncio.sleep(0.02)
    assert told[-1] == ("crashed", "db: is newer")
    assert keeper.failure == "db: is newer"
    assert len(spawner.processes) == 1
    await keeper.stop()


async def test_nobody_is_let_wait_for_what_does_not_come(keeping, tmp_path):
    sock = bind_unix(tmp_path / "x.sock")
    keeper, spawner, _ = keeping((sock,))
    waiting = await asyncio.open_unix_connection(tmp_path / "x.sock")
    spawner.failure = "db: is newer"
    (await spawner.next(0)).end(EX_CONFIG)

    assert await asyncio.wait_for(waiting[0].read(), 1.0) == b""
    late = await asyncio.open_unix_connection(tmp_path / "x.sock")
    assert await asyncio.wait_for(late[0].read(), 1.0) == b""
    for _, writer in (waiting, late):
        writer.close()
    await keeper.stop()
    sock.close()


async def test_for_what_comes_at_once_everybody_waits(keeping, tmp_path):
    sock = bind_unix(tmp_path / "x.sock")
    keeper, spawner, _ = keeping((sock,))
    reader, writer = await asyncio.open_unix_connection(tmp_path / "x.sock")
    for number in range(3):
        (await spawner.next(number)).end(1)
    await spawner.next(3)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(), 0.05)
    assert sock.accept()
    writer.close()
    spawner.processes[-1].end(0)
    await keeper.stop()
    sock.close()


async def test_later_it_is_tried_a_few_times(keeping):
    keeper, spawner, told = keeping(startup_attempts=3)
    keeper.was_ready = True
    spawner.failure = "db: the disk is full"
    for number in range(3):
        (await spawner.next(number)).end(EX_CONFIG)
    await asyncio.sleep(0.02)
    assert len(spawner.processes) == 3
    assert told[-1] == ("crashed", "db: the disk is full")
    await keeper.stop()


async def test_a_machine_without_room_is_tried_again(keeping):
    keeper, spawner, told = keeping()
    spawner.away = True
    await spawner.spawned.wait()
    while not told:
        await asyncio.sleep(0)
    assert told[0] == ("crashed", "no process could be started: no memory")
    spawner.away = False
    process = await spawner.next(0)
    asyncio.get_running_loop().call_soon(process.end, 0)
    await keeper.stop()


async def test_a_process_that_never_answers_is_replaced(keeping):
    keeper, spawner, _ = keeping(start_timeout=0.01, probe_timeout=0.01)
    first = await spawner.next(0)
    second = await spawner.next(1)
    assert first.told == ["kill"]
    keeper.kill()
    assert second.told == ["kill"]
    await keeper.stop()


async def test_what_has_not_started_in_time_is_killed(keeping, monkeypatch):
    monkeypatch.setattr("moonpool.wiring.keeper.UNREADY_GRACE", 0.01)
    keeper, spawner, _ = keeping()
    process = await spawner.next(0)
    await asyncio.sleep(0)
    await keeper.stop()
    assert process.told == ["terminate", "kill"]


async def test_what_drains_need_not_answer(keeping):
    """It has closed its sockets, and may have streams for longer than anybody may be silent."""
    keeper, spawner, _ = keeping(start_timeout=0.02, probe_steady=0.001)
    process = await spawner.next(0)
    await asyncio.sleep(0)
    keeper.instance = structs.replace(keeper.instance, state="ready")
    stopping = asyncio.create_task(keeper.stop())
    await asyncio.sleep(0.2)
    assert process.told == ["terminate"]
    process.end(0)
    await stopping
