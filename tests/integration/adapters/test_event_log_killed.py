"""Producers and consumers of the SQLite event log, killed with SIGKILL wherever they happen to be."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from moonpool.adapters.events.sqlite import SqliteEventLog

LEASE = 0.5

PRODUCER = """
import asyncio, sys
from pathlib import Path
from moonpool.adapters.events.sqlite import SqliteEventLog
from moonpool.ports.events import Event

async def produce(log, name):
    for number in range(1_000_000):
        pair = [Event(f"{name}-{number}-{half}", f"{name}{number}{half}", b"x" * 300) for half in "ab"]
        await log.append("t", pair)
        print(f"{name}-{number}", flush=True)

async def main():
    log = SqliteEventLog(Path(sys.argv[1]), lease=0.5)
    await log.start()
    await asyncio.gather(*(produce(log, f"{sys.argv[2]}.{n}") for n in range(4)))

asyncio.run(main())
"""

CONSUMER = """
import asyncio, sys
from pathlib import Path
from moonpool.adapters.events.sqlite import SqliteEventLog

async def main():
    log = SqliteEventLog(Path(sys.argv[1]), lease=0.5)
    await log.start()
    async with log.consumer("t", "g") as consumer:
        print("ready", flush=True)
        while True:
            for one in await consumer.poll(limit=20):
                print(one.event.id, flush=True)
            await consumer.commit()

asyncio.run(main())
"""


def spawn(code: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


def kill_after(process: "subprocess.Popen[str]", lines: int) -> list[str]:
    """The complete lines of its output until it was killed, at least `lines` of them."""
    assert process.stdout is not None
    got = [process.stdout.readline() for _ in range(lines)]
    process.kill()
    got += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    return [line.strip() for line in got if line.endswith("\n")]


async def read_all(path: Path, group: str) -> list[str]:
    log = SqliteEventLog(path, lease=LEASE)
    await log.start()
    got: list[str] = []
    async with log.consumer("t", group) as consumer:
        async with asyncio.timeout(20):
            while await log.lag("t", group):
                got += [one.event.id for one in await consumer.poll(wait=0.2)]
                await consumer.commit()
    await log.stop()
    return got


async def test_what_a_killed_producer_was_told_is_durable_is_there_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    acknowledged: list[str] = []
    for round_ in range(3):
        producers = [spawn(PRODUCER, str(path), f"p{round_}{n}") for n in range(2)]
        for number, producer in enumerate(producers):
            acknowledged += kill_after(producer, 30 + 17 * (round_ + number))
    stored = await read_all(path, "check")
    assert len(stored) == len(set(stored))
    assert {f"{one}-{half}" for one in acknowledged for half in "ab"} <= set(stored)
    pairs = {one.rsplit("-", 1)[0] for one in stored}
    assert len(stored) == 2 * len(pairs), "an append is all or nothing"


async def test_what_a_killed_consumer_had_in_hand_goes_to_the_others(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    kill_after(spawn(PRODUCER, str(path), "p"), 200)
    stored = set(await read_all(path, "check"))
    handled: list[str] = []
    for round_ in range(4):
        handled += kill_after(spawn(CONSUMER, str(path)), 2 + 23 * round_)[1:]
    handled += await read_all(path, "g")
    assert set(handled) == stored
    repeated = len(handled) - len(stored)
    assert repeated <= 4 * 20, "only what was polled and not committed comes again"


async def test_a_member_that_stood_still_does_not_undo_the_others_work(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    kill_after(spawn(PRODUCER, str(path), "p"), 50)
    stalled = spawn(CONSUMER, str(path))
    assert stalled.stdout is not None
    assert stalled.stdout.readline() == "ready\n"
    stop_outside_of_a_transaction(stalled.pid, path)
    await asyncio.to_thread(read_all_sync, path)
    log = SqliteEventLog(path, lease=LEASE)
    await log.start()
    os.kill(stalled.pid, signal.SIGCONT)
    await asyncio.sleep(LEASE)
    assert await log.lag("t", "g") == 0
    kill_after(stalled, 0)
    await log.stop()


def stop_outside_of_a_transaction(pid: int, path: Path) -> None:
    """Alive, but silent; holding SQLite's lock it would be a different test."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0.05)) as connection:
        for _ in range(20):
            os.kill(pid, signal.SIGSTOP)
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
            else:
                connection.execute("ROLLBACK")
                return
    raise AssertionError("it always held the lock")


def read_all_sync(path: Path) -> None:
    asyncio.run(read_all(path, "g"))
