"""A release of chat whose schema is another one goes in and out under load: both work on the database at the
same time, and no message is lost. One that takes the schema from under the present release is refused."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.injector import injecting
from harness.platform import Platform, running
from harness.upgrading import LIMITS, releases, told, upgrade
from harness.wheels import ROOT, wheel

MODEL = "remote"
TALKERS = 4
EXPAND = """
import sqlalchemy as sa
from alembic import op
revision = "0003"
down_revision = "0002"
compatible_from = "0002"
def upgrade() -> None:
    op.add_column("messages", sa.Column("origin", sa.Text))
"""
CONTRACT = """
from alembic import op
revision = "0004"
down_revision = "0003"
compatible_from = "0003"
def upgrade() -> None:
    op.execute("ALTER TABLE messages DROP COLUMN reasoning")
"""
VERSIONS = "services/chat/migrations/versions"


def newer(folder: Path) -> Path:
    """Writes where each message was written, in a column that the present code does not know."""
    last = 'Index("messages_order"'
    tables = (ROOT / "services/chat/tables.py").read_text()
    assert last in tables
    tables = tables.replace(last, f'Column("origin", Text, default="v2"),\n    {last}')
    changed = {"services/chat/tables.py": tables, f"{VERSIONS}/0003_origin.py": EXPAND}
    return wheel(folder, "9.2", changed)


def later(folder: Path) -> Path:
    changed = {f"{VERSIONS}/0003_origin.py": EXPAND, f"{VERSIONS}/0004_reasoning.py": CONTRACT}
    return wheel(folder, "9.3", changed)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with injecting() as injector, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        config = {
            "models": {MODEL: {"targets": [{"url": injector.url, "model": "m"}]}},
            "limits": {"default": LIMITS},
        }
        folder = tmp_path_factory.mktemp("schema")
        with running(folder / "data", config) as started:
            told(started, "release", "add", "chat", "v2", "--from", str(newer(folder)))
            told(started, "release", "add", "chat", "v3", "--from", str(later(folder)))
            yield started


class Talk:
    """Conversations that never rest: `said` is what was answered, by conversation."""

    def __init__(self, platform: Platform) -> None:
        headers = {"authorization": f"Bearer {platform.key}"}
        self._client = httpx.AsyncClient(base_url=platform.url, headers=headers, timeout=30, trust_env=False)
        self._over = asyncio.Event()
        self.said: dict[str, list[str]] = {}
        self.bad: list[str] = []
        self._tasks = [asyncio.create_task(self._talk()) for _ in range(TALKERS)]

    async def _talk(self) -> None:
        """A new conversation after a few words: those that are there stay with their release."""
        while not self._over.is_set():
            created = await self._post("/api/conversations", {})
            if created is None:
                continue
            said = self.said.setdefault(created["id"], [])
            for number in range(6):
                content = f"{number} in {created['id']}"
                body = {"content": content, "stream": False}
                if await self._post(f"/api/conversations/{created['id']}/messages", body) is not None:
                    said.append(content)
                await asyncio.sleep(0.05)

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        try:
            answer = await self._client.post(path, json=body)
        except httpx.HTTPError as error:
            self.bad.append(f"{path}: {error!r}")
            return None
        if answer.status_code not in (200, 201):
            self.bad.append(f"{path}: {answer.status_code} {answer.text[:300]}")
            return None
        found: dict[str, Any] = answer.json()
        return found

    async def lost(self) -> list[str]:
        """What was answered, and is not there with its answer, once each."""
        missing = []
        for id, said in self.said.items():
            answer = await self._client.get(f"/api/conversations/{id}/messages", params={"limit": 100})
            there = [(one["role"], one["content"], one["status"]) for one in answer.json()["data"]]
            asked = [content for role, content, _ in there if role == "user"]
            answered = [
                content for role, content, status in there if (role, status) == ("assistant", "completed")
            ]
            if asked != said or len(answered) != len(said) or not all(answered):
                missing.append(f"{id}: said {said}, there is {there}")
        return missing

    async def stop(self) -> None:
        self._over.set()
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        await self.stop()
        await self._client.aclose()


@pytest.fixture
async def talk(platform: Platform) -> AsyncIterator[Talk]:
    talking = Talk(platform)
    yield talking
    await talking.close()


def rows(platform: Platform, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{platform.data}/db/chat.db?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


async def test_a_schema_that_takes_something_away_is_refused_beside_code_that_needs_it(
    platform: Platform, talk: Talk
) -> None:
    found = await asyncio.to_thread(upgrade, platform, "chat", "v3", "canary", code=6, steps=[50])

    assert "code of revision 0002 is at work" in found["reason"]
    assert rows(platform, "SELECT version_num FROM alembic_version") == [("0002",)]
    await talk.stop()
    assert talk.bad == []
    assert await talk.lost() == []
    assert releases(platform, "chat") == ["v1"]


async def test_forth_and_back(platform: Platform, talk: Talk) -> None:
    plan = {"soak_seconds": 3, "minimum_sample": 10, "observe_seconds": 1}
    await asyncio.to_thread(upgrade, platform, "chat", "v2", "canary", steps=[50], **plan)
    assert rows(platform, "SELECT version_num FROM alembic_version") == [("0003",)]
    assert await asyncio.to_thread(releases, platform, "chat") == ["v2"]
    written = "SELECT count(*) FROM messages WHERE origin {} ORDER BY 1"
    assert rows(platform, written.format("= 'v2'"))[0][0] > 10
    before = rows(platform, written.format("IS NULL"))[0][0]
    assert before > 10

    # The old code starts on the new schema.
    await asyncio.to_thread(told, platform, "upgrade", "rollback", "chat", "--wait", timeout=60)

    await asyncio.sleep(1)
    await talk.stop()
    assert talk.bad == []
    assert await talk.lost() == []
    assert releases(platform, "chat") == ["v1"]
    assert rows(platform, written.format("IS NULL"))[0][0] > before
    print(sum(map(len, talk.said.values())), "messages")
