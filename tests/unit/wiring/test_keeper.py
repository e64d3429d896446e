"""A slot with a spawner that starts nothing: the processes end when the test says so."""

import asyncio

import pytest
from msgspec import structs

from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.core.errors import Unavailable
from moonpool.ports.spawner import Draining
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
        self.draining = Draining()
        self.knows = False

    async def wait(self):
        return await asyncio.shield(self.ended)

    def end(self, code):
        if not self.ended.done():
            self.ended.set_result(code)

    def retire(self):
        if self.knows:
            self.told.append("retire")
        return self.knows

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

    def make(sockets=(), replaced=0.0, **settings):
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
                replaced_drain_timeout=replaced,
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


@pytest.fixture
def serving(keeping, monkeypatch):
    """A keeper whose process is ready, and knows what it means to be replaced if `knows`."""
    monkeypatch.setattr("moonpool.wiring.keeper.LOOK_EVERY", 0.001)
    monkeypatch.setattr("moonpool.wiring.keeper.GRACE", 0.05)

    async def make(*, knows=True, replaced=60.0, **settings):
        keeper, spawner, told = keeping(replaced=replaced, **settings)
        process = await spawner.next(0)
        process.knows = knows
        await asyncio.sleep(0)
        keeper.instance = structs.replace(keeper.instance, state="ready")
        return keeper, process, told

    return make


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_what_was_replaced_ends_with_what_it_has(serving):
    keeper, process, told = await serving(live_timeout=60_000.0)
    retiring = asyncio.create_task(keeper.retire(settle=0.0))
    await until(lambda: process.told)
    process.draining = Draining(notes=2, tells=True, under_way=5)
    await until(lambda: ("draining", "5 requests to end") in told)
    await asyncio.sleep(0.1)  # for longer than one that is stopped would have
    assert process.told == ["retire"]
    process.end(0)
    await retiring
    assert keeper.instance.state == "stopped"
    assert "kill" not in process.told


async def test_others_are_told_first(serving):
    keeper, process, told = await serving()
    retiring = asyncio.create_task(keeper.retire(settle=60.0))
    await until(lambda: ("draining", "") in told)
    await asyncio.sleep(0.01)
    assert process.told == []
    keeper.hurry()  # then nobody is left to tell
    await until(lambda: process.told == ["terminate"])
    process.end(0)
    await retiring


async def test_the_end_of_the_platform_cuts_it_short(serving):
    keeper, process, _ = await serving()
    retiring = asyncio.create_task(keeper.retire(settle=0.0))
    await until(lambda: process.told == ["retire"])
    await keeper.stop()
    await retiring
    assert process.told == ["retire", "terminate", "kill"]


async def test_what_is_stopped_is_never_given_long(serving):
    keeper, process, _ = await serving()
    stopping = asyncio.create_task(keeper.stop())
    await until(lambda: process.told == ["terminate"])
    process.end(0)
    await stopping


async def test_a_package_that_does_not_know_the_word_has_the_short_time(serving):
    keeper, process, _ = await serving(knows=False)
    await keeper.retire(settle=0.0)
    assert process.told == ["terminate", "kill"]


async def test_what_outlives_its_bound_is_killed(serving):
    keeper, process, _ = await serving(replaced=0.01)
    await keeper.retire(settle=0.0)
    assert process.told[:2] == ["retire", "kill"]


async def test_what_falls_silent_is_killed(serving):
    keeper, process, _ = await serving(live_timeout=2.0)  # two looks
    process.draining = Draining(notes=1, tells=True, under_way=1)
    await asyncio.wait_for(keeper.retire(settle=0.0), 5)
    assert process.told[:2] == ["retire", "kill"]
