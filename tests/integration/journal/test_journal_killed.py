"""The journal and the event log on real files, with real processes that are killed or run out of disk.

Whatever a process was told to be safe is in the event log afterwards, at least once; what it had open
is there as interrupted.
"""

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from moonpool.adapters.events.sqlite import SqliteEventLog
from moonpool.adapters.journal import local
from moonpool.adapters.journal.local import LocalJournal

WRITER = """
import asyncio, json, resource, signal, sys
from pathlib import Path
import structlog
from moonpool.adapters.events.sqlite import SqliteEventLog
from moonpool.adapters.journal import local
from moonpool.adapters.journal.local import LocalJournal

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
data, instance, limit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
local.INTERVAL, local.SEGMENT = 0.01, 40_000

def record(id, outcome):
    usage = {"prompt_tokens": 5, "completion_tokens": 0}
    return json.dumps({"id": id, "outcome": outcome, "usage": usage, "pad": "x" * 200}).encode()

async def main():
    events = SqliteEventLog(data / "events.db")
    await events.start()
    journal = LocalJournal(data / "spool", "usage", instance, events, structlog.get_logger())
    await journal.start()
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    n = 0
    while True:
        n += 1
        id = f"{instance}.{n}"
        if n % 5 == 0:
            journal.open(id, record(id, "interrupted"))
            journal.progress(id, n)
            print("open", id, n, flush=True)
        else:
            journal.close(id, record(id, "completed"))
            print("closed" if journal.healthy else "held", id, n, flush=True)
        await asyncio.sleep(0.001 if n % 10 == 0 else 0)

asyncio.run(main())
"""


def spawn(data: Path, instance: str, limit: int = 0) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", WRITER, str(data), instance, str(limit)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def kill_after(process: "subprocess.Popen[str]", lines: int) -> list[tuple[str, str, int]]:
    """SIGKILL after that many lines; what it had said by then, whole lines only."""
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(lines)]
    process.kill()
    said += process.stdout.read().splitlines(keepends=True)
    process.wait()
    process.stdout.close()
    words = [line.split() for line in said if line.endswith("\n")]
    return [(kind, id, int(count)) for kind, id, count in words]


async def recover(data: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Every record of the topic, once a following process has taken over what is there."""
    monkeypatch.setattr(local, "INTERVAL", 0.01)
    monkeypatch.setattr(local, "ORPHANS_EVERY", 0.0)
    events = SqliteEventLog(data / "events.db")
    await events.start()
    journal = LocalJournal(data / "spool", "usage", "following", events, structlog.get_logger())
    await journal.start()
    async with asyncio.timeout(30):
        while len(list((data / "spool").iterdir())) > 1:
            await asyncio.sleep(0.01)
    await journal.stop()
    assert list((data / "spool").iterdir()) == []
    records: list[dict] = []
    async with events.consumer("usage", "billing") as consumer:
        while batch := await consumer.poll(wait=0.2):
            for delivered in batch:
                records += [json.loads(line) for line in delivered.event.value.split(b"\n")]
    await events.stop()
    return records


def check(said: list[tuple[str, str, int]], records: list[dict]) -> None:
    told = {record["id"]: record for record in records}
    for kind, id, count in said:
        if kind == "closed":
            assert told[id]["outcome"] == "completed", id
        elif kind == "open":
            assert told[id]["outcome"] == "interrupted", id
            assert told[id]["usage"]["completion_tokens"] == count
    by_id: dict[str, set[str]] = {}
    for record in records:
        by_id.setdefault(record["id"], set()).add(json.dumps(record, sort_keys=True))
    assert all(len(versions) == 1 for versions in by_id.values()), "a repetition tells the same"


@pytest.mark.parametrize("seed", range(4))
async def test_killed_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    process = await asyncio.to_thread(spawn, tmp_path, f"gateway-{seed}")
    said = await asyncio.to_thread(kill_after, process, random.Random(seed).randrange(50, 2500))
    records = await recover(tmp_path, monkeypatch)
    check(said, records)
    assert len({record["id"] for record in records}) <= len(said) + 1


async def test_two_processes_share_the_folder_and_both_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = [spawn(tmp_path, name) for name in ("gateway", "chat")]
    said = await asyncio.gather(*(asyncio.to_thread(kill_after, process, 800) for process in processes))
    records = await recover(tmp_path, monkeypatch)
    check([*said[0], *said[1]], records)


async def test_killed_with_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file may grow beyond its limit: the journal stops taking records within a line, and says so."""
    process = await asyncio.to_thread(spawn, tmp_path, "gateway", 30_000)
    said = await asyncio.to_thread(kill_after, process, 1500)
    assert "held" in {kind for kind, _, _ in said}
    # What was opened after the first record that was held was never promised.
    promised = said[: next(n for n, (kind, _, _) in enumerate(said) if kind == "held")]
    told = {record["id"] for record in await recover(tmp_path, monkeypatch)}
    assert {id for kind, id, _ in promised if kind == "closed"} <= told
