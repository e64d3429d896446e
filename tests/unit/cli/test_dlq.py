"""`moonpool dlq` on an API that is played by a table of answers."""

import json
import time
from collections.abc import AsyncIterator

import pytest
import typer
from typer.testing import CliRunner

from moonpool.cli import api
from moonpool.cli.api import Place
from moonpool.cli.dlq import app as dlq

app = typer.Typer()
app.add_typer(dlq)

LETTER = {
    "id": "dl_1",
    "request_id": "req_1",
    "state": "dead",
    "deferred": False,
    "user": "user_1",
    "service": "inference",
    "method": "POST",
    "route": "/v1/chat/completions",
    "cause": "upstream_reset",
    "attempts": 2,
    "created_at": 1_700_000_000.0,
    "updated_at": 1_700_000_000.0,
    "next_at": None,
    "size": 700,
}
DETAIL = {
    **LETTER,
    "path": "/v1/chat/completions",
    "query": "",
    "body_bytes": 99,
    "failures": [{"at": 1_700_000_001.0, "status": 502, "code": "upstream_reset", "message": "gone [red]"}],
    "answer_status": None,
    "request": {"headers": {"content-type": "application/json"}, "body": '{"prompt": "[bold]hi"}'},
}


def report(*outcomes: str, stopped: bool = False, has_more: bool = False, after: str = "dl_1") -> dict:
    data = [{"id": "dl_1", "outcome": outcome, "status": 200, "message": ""} for outcome in outcomes]
    failed = sum(outcome.startswith("failed") for outcome in outcomes)
    counts = {"answered": outcomes.count("answered"), "failed": failed}
    return {"data": data, **counts, "stopped": stopped, "has_more": has_more, "after": after}


class Platform:
    def __init__(self) -> None:
        self.answers: list[object] = []
        self.asked: list[tuple[str, str, str, object]] = []

    async def exchange(
        self, place: Place, method: str, path: str, query: str, body: bytes | None
    ) -> AsyncIterator[bytes]:
        self.asked.append((method, path, query, json.loads(body) if body else None))
        yield json.dumps(self.answers.pop(0)).encode()


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    played = Platform()
    monkeypatch.setattr(api, "_exchange", played.exchange)
    return played


def run(*words: str):
    return CliRunner().invoke(app, ["dlq", *words, "--url", "http://x", "--key", "k"])


def test_list(platform: Platform) -> None:
    page = {"data": [LETTER], "has_more": True}
    platform.answers = [page, page]
    result = run("list", "--state", "dead", "--state", "waiting", "--service", "inference", "--limit", "7")
    assert result.exit_code == 0
    assert "dl_1" in result.stdout
    assert "upstream_reset" in result.stdout
    assert "more than 7" in result.stderr
    assert platform.asked[0][:3] == ("GET", "/admin/dlq", "state=dead%2Cwaiting&service=inference&limit=7")
    assert json.loads(run("list", "--json").stdout)["data"][0]["id"] == "dl_1"


def test_show(platform: Platform) -> None:
    platform.answers = [DETAIL]
    result = run("show", "dl_1", "--content")
    assert "gone [red]" in result.stdout
    assert '{"prompt": "[bold]hi"}' in result.stdout
    assert platform.asked[0][1:3] == ("/admin/dlq/dl_1", "content=true")


def test_replay_named(platform: Platform) -> None:
    platform.answers = [report("answered"), report("failed, dead")]
    result = run("replay", "dl_1", "dl/2")
    assert result.exit_code == 6
    assert "1 answered, 1 failed again" in result.stderr
    assert [each[:2] for each in platform.asked] == [
        ("POST", "/admin/dlq/dl_1/replay"),
        ("POST", "/admin/dlq/dl%2F2/replay"),
    ]


def test_replay_all_goes_on_part_by_part(platform: Platform) -> None:
    platform.answers = [report("answered", has_more=True, after="dl_7"), report("answered")]
    result = run("replay", "--all", "--rate", "2", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["answered"] == 2
    assert [each[3] for each in platform.asked] == [
        {"all": True, "limit": 20, "rate": 2.0},
        {"all": True, "limit": 20, "rate": 2.0, "after": "dl_7"},
    ]


def test_replay_stops(platform: Platform) -> None:
    platform.answers = [report("failed, dead", stopped=True, has_more=True)]
    result = run("replay", "--cause", "upstream_reset")
    assert result.exit_code == 6
    assert "left alone" in result.stderr
    assert len(platform.asked) == 1


def test_purge(platform: Platform) -> None:
    platform.answers = [{"deleted": 1}, {"deleted": 1}, {"deleted": 5}]
    assert "Deleted 2." in run("purge", "dl_1", "dl_2").stderr
    before = time.time() - 7 * 86_400
    assert "Deleted 5." in run("purge", "--older-than", "7d", "--state", "dead").stderr
    wish = platform.asked[-1][3]
    assert wish["states"] == ["dead"]
    assert wish["before"] == pytest.approx(before, abs=30)


@pytest.mark.parametrize("command", ["replay", "purge"])
def test_nothing_is_done_by_mistake(platform: Platform, command: str) -> None:
    result = run(command)
    assert result.exit_code == 2
    assert "nothing was chosen" in result.stderr
    assert platform.asked == []
