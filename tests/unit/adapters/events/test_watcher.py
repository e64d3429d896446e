"""The watcher wakes for changes of others, and only looks while someone waits."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from moonpool.adapters.events.watcher import SLOW, Watcher

LONG, SOON = 60.0, 10.0
"""Seconds: who is woken by nothing waits LONG; SOON is less, and more than any machine needs."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "w.db"
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (x)")
    connection.close()
    return path


@pytest.fixture
async def watcher(path: Path) -> AsyncIterator[Watcher]:
    watcher = Watcher(path)
    await watcher.changed(watcher.version, 0.05)  # the first look always tells of a change
    yield watcher
    watcher.close()


async def test_a_commit_elsewhere_wakes(watcher: Watcher, path: Path) -> None:
    seen = watcher.version
    waiting = asyncio.create_task(watcher.changed(seen, LONG))
    await asyncio.sleep(0)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    await asyncio.wait_for(waiting, SOON)
    assert watcher.version > seen


async def test_a_change_of_ones_own_wakes_at_once(watcher: Watcher) -> None:
    waiting = asyncio.create_task(watcher.changed(watcher.version, LONG))
    await asyncio.sleep(0)
    watcher.notify()
    await asyncio.wait_for(waiting, SOON)


async def test_a_change_between_look_and_wait_is_not_missed(watcher: Watcher) -> None:
    seen = watcher.version
    watcher.notify()
    await asyncio.wait_for(watcher.changed(seen, LONG), SOON)


async def test_without_a_change_it_returns_after_the_timeout(watcher: Watcher) -> None:
    seen = watcher.version
    await asyncio.wait_for(watcher.changed(seen, 0.02), SOON)
    assert watcher.version == seen


async def test_nobody_waits_nobody_looks(watcher: Watcher) -> None:
    await watcher.changed(watcher.version, 0.001)
    await asyncio.sleep(2 * SLOW)
    assert watcher._timer is None


async def test_closing_wakes_those_who_wait(path: Path) -> None:
    watcher = Watcher(path)
    waiting = asyncio.create_task(watcher.changed(watcher.version, LONG))
    await asyncio.sleep(0)
    watcher.close()
    await asyncio.wait_for(waiting, SOON)
