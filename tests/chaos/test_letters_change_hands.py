"""A gateway that is drained hands the letter back that it is sending, and another process sends it at once.
The service, which has both requests before it can answer either, does what they ask for once."""

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from harness.platform import Platform, running, wait_until
from harness.upgrading import modules, releases, told
from moonpool.adapters.spawner.control import ControlFleet
from moonpool.http.client import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

JOBS = "/v1/fine_tuning/jobs"
CONFIG = {"models": {"remote": {"targets": [{"url": "http://127.0.0.1:9/v1"}]}}}


@pytest.fixture
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("hands") / "data", CONFIG) as started:
        told(started, "release", "add", "gateway", "v2")
        yield started


def own(platform: Platform, release: str) -> str:
    """The socket of that gateway, which it shares with no other."""
    found = next(one for one in modules(platform, "gateway") if one["release"] == release)
    return str(found["own"]).removeprefix("unix:")


def held_until(platform: Platform) -> float:
    """Of the one letter there is; 0 when nobody is at work on it."""
    file = f"file:{platform.data}/spool/letters.db?mode=ro"
    with closing(sqlite3.connect(file, uri=True, timeout=5.0)) as connection:
        rows = connection.execute("SELECT leased_until FROM letters").fetchall()
    return float(rows[0][0]) if rows else 0.0


async def ask_later(platform: Platform, release: str) -> str:
    """Where the answer will be to a job that this gateway has accepted."""
    transport = httpx.AsyncHTTPTransport(uds=own(platform, release))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        answer = await client.post(
            JOBS,
            json={"model": "remote", "training_file": "file-1"},
            headers={"Authorization": f"Bearer {platform.key}", "Prefer": "respond-async"},
        )
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


async def test_what_one_gateway_hands_back_the_other_sends(platform: Platform) -> None:
    client = Client()
    fleet = ControlFleet(platform.data / "run" / "control.json", client)
    await fleet.ensure("gateway", "v2", 1)
    both = [("v1", "ready"), ("v2", "ready")]

    def ready() -> bool:
        return sorted((one["release"], one["state"]) for one in modules(platform, "gateway")) == both

    await asyncio.to_thread(wait_until, ready, "both gateways")
    training = next(one["pid"] for one in modules(platform, "training"))
    os.kill(training, signal.SIGSTOP)
    try:
        place = await ask_later(platform, "v1")
        first = await asyncio.to_thread(wait_until, lambda: held_until(platform), "the first to send it")
        began = time.monotonic()
        await fleet.remove("gateway", "v1")

        def elsewhere() -> bool:
            return held_until(platform) not in (0.0, first)

        await asyncio.to_thread(wait_until, elsewhere, "the other to send it", 5.0)
        seconds = time.monotonic() - began
    finally:
        os.kill(training, signal.SIGCONT)
    print(f"\nanother process was at work on it {seconds:.2f} s after the first was told to end")

    def answered() -> dict[str, Any]:
        answer = platform.request("GET", place)
        found: dict[str, Any] = answer.json()
        return found if answer.status == 200 and found.get("object") == "fine_tuning.job" else {}

    job = await asyncio.to_thread(wait_until, answered, "the answer")
    jobs = platform.request("GET", JOBS).json()["data"]
    assert [one["id"] for one in jobs] == [job["id"]], "both requests came to the service: it made one job"
    await asyncio.to_thread(wait_until, lambda: releases(platform, "gateway") == ["v2"], "the first to end")
    await client.aclose()
    # Half a second of it the supervisor gives the others to learn that this one is not to be called.
    assert seconds < 2.0
