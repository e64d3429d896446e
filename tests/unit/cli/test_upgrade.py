"""`moonpool upgrade` on an API that is played by a table of answers."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from moonpool.cli import api
from moonpool.cli import upgrade as commands
from moonpool.cli.api import FAILED, CommandFailed, Place
from moonpool.contracts.upgrades import (
    EventPage,
    EventView,
    ExperimentView,
    MetricView,
    Numbers,
    PhaseView,
    Rehearsal,
    Side,
    UpgradePage,
    UpgradePlan,
    UpgradeView,
    VerdictView,
)

app = typer.Typer()
app.add_typer(commands.app)
VERDICT = VerdictView(
    kind="fine",
    reason="nothing is worse",
    metrics=(
        MetricView(
            name="errors", old=0.01, new=0.02, effect=0.01, low=-0.01, high=0.03, p=0.4, verdict="same"
        ),
        MetricView(name="first token", old=0.05, new=0.06, effect=0.2, verdict="same"),
    ),
)


def view(phase: str = "canary", outcome: str = "", **more) -> UpgradeView:
    ended = 1_700_000_100.0 if phase in ("done", "rolled_back") else None
    fields = {
        "id": "up_1",
        "service": "chat",
        "strategy": "canary",
        "phase": phase,
        "outcome": outcome,
        "step": 1,
        "steps": 4,
        "reason": "1 % went well",
        "waiting_for": "time: 3 of 60 s",
        "old": Side(release="v1", weight=95, replicas=2, ready=2, numbers=Numbers(requests=950, errors=9)),
        "new": Side(
            release="v2", weight=5, replicas=1, ready=1, numbers=Numbers(requests=50, error_rate=0.02)
        ),
        "verdict": VERDICT,
        "path": (PhaseView(title="stage", state="past"), PhaseView(title="5 %", state="now")),
        "started_by": "user_1",
        "started_at": 1_700_000_000.0,
        "since": 1_700_000_000.0,
        "ended_at": ended,
    }
    return UpgradeView(**{**fields, **more})


class Platform:
    def __init__(self) -> None:
        self.answers: list[object] = []
        self.asked: list[tuple[str, str, str, object]] = []

    async def exchange(
        self, place: Place, method: str, path: str, query: str, body: bytes | None
    ) -> AsyncIterator[bytes]:
        self.asked.append((method, path, query, json.loads(body) if body else None))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        yield msgspec.json.encode(answer)


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    played = Platform()
    monkeypatch.setattr(api, "_exchange", played.exchange)
    monkeypatch.setattr(commands, "EVERY", 0.0)
    return played


def run(*words: str):
    return CliRunner().invoke(app, ["upgrade", *words, "--url", "http://x", "--key", "k"])


def test_start_sends_the_plan_with_its_strategy(platform: Platform, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("steps: [5, 50]\n")
    platform.answers = [view("preflight")]
    words = ("--to", "v2", "--plan", str(plan), "--strategy", "canary", "--reason", "faster")
    assert run("start", "chat", *words).exit_code == 0
    method, path, _, body = platform.asked[0]
    assert (method, path) == ("POST", "/admin/upgrades")
    assert body == {
        "service": "chat",
        "to": "v2",
        "plan": {"steps": [5.0, 50.0]},
        "reason": "faster",
        "dry_run": False,
    }


@pytest.mark.parametrize(
    ("end", "code"),
    [(("done", "promoted"), 0), (("rolled_back", "rolled_back"), 6), (("paused", ""), 7)],
)
def test_wait_tells_the_end_by_its_exit_code(platform: Platform, end: tuple[str, str], code: int) -> None:
    away = CommandFailed("the gateway is just being replaced", exit_code=FAILED)
    platform.answers = [view("stage"), view("canary"), away, view(*end)]
    result = run("start", "chat", "--to", "v2", "--wait", "--json")
    assert result.exit_code == code
    assert json.loads(result.stdout)["phase"] == end[0]


def test_a_dry_run_is_a_numbered_list(platform: Platform) -> None:
    told = Rehearsal(
        service="chat", old="v1", new="v2", strategy="canary", steps=("check", "start 1"), plan=UpgradePlan()
    )
    platform.answers = [told]
    result = run("start", "chat", "--to", "v2", "--dry-run")
    assert "  2. start 1" in result.stdout
    assert platform.asked[0][3]["dry_run"] is True


def test_an_unknown_strategy_asks_nobody(platform: Platform) -> None:
    result = run("start", "chat", "--to", "v2", "--strategy", "yolo")
    assert result.exit_code == 2
    assert "blue-green" in result.stderr
    assert platform.asked == []


def test_status_draws_both_releases(platform: Platform) -> None:
    platform.answers = [view()]
    shown = run("status", "chat").stdout
    for text in (
        "chat: v1 → v2",
        "canary 2 of 4",
        "✓ stage",
        "● 5 %",
        "first token",
        "waits for: time",
        "60 ms",
    ):
        assert text in shown
    platform.answers = [UpgradePage(data=[view("rolled_back", "rolled_back")])]
    assert "rolled back" in run("status").stdout
    platform.answers = [UpgradePage(data=[])]
    assert "no upgrades yet" in run("status").stderr


def test_status_tells_what_tokens_cost_or_that_nobody_knows(platform: Platform) -> None:
    cost = MetricView(name="cost", old=1.1, new=2.2, effect=1.0, p=0.001, verdict="worse")
    sides = {
        label: Side(release=label, numbers=Numbers(requests=9, tokens=900, cost_per_million=price))
        for label, price in (("v1", 1.1), ("v2", 2.2))
    }
    both = VerdictView(kind="worse", reason="dear", metrics=(cost,))
    platform.answers = [view(old=sides["v1"], new=sides["v2"], verdict=both)]
    lines = {line.split("  ")[0]: line for line in run("status", "chat").stdout.splitlines()}
    assert lines["a million tokens"].split()[3:] == ["1.1", "2.2"]
    assert lines["cost of a million tokens"].split()[5:] == ["1.1", "2.2", "+100.0%", "-", "0.001", "worse"]

    unknown = MetricView(name="cost", new=2.2, p=1.0, note="no price is known of the old release")
    free = Side(release="v1", numbers=Numbers(requests=9, tokens=900))
    platform.answers = [
        view(old=free, new=sides["v2"], verdict=VerdictView(kind="fine", reason="", metrics=(unknown,)))
    ]
    shown = run("status", "chat").stdout
    assert "no price  2.2" in shown
    assert "no price is known of the old release" in shown


@pytest.mark.parametrize("word", ["pause", "resume", "promote", "abort", "rollback"])
def test_words_are_passed_on(platform: Platform, word: str) -> None:
    platform.answers = [view("paused")]
    result = run(word, "chat", "--reason", "lunch", "--json")
    assert result.exit_code == 0
    assert platform.asked == [("POST", f"/admin/upgrades/chat/{word}", "", {"reason": "lunch"})]


def test_a_history_without_anything_says_so(platform: Platform) -> None:
    platform.answers = [EventPage(data=[]), EventPage(data=[]), EventPage(data=[])]
    assert "There were no upgrades yet" in run("history").stderr
    assert "no upgrades of chat yet" in run("history", "chat").stderr
    assert run("history", "--json").stderr == ""


def test_history(platform: Platform) -> None:
    entry = EventView(
        id="upev_1",
        upgrade="up_1",
        service="chat",
        at=1_700_000_000.0,
        who="manager",
        what="rolling back",
        why="worse",
        evidence={"v2": "9 errors"},
    )
    platform.answers = [EventPage(data=[entry])]
    shown = run("history", "chat").stdout
    assert "rolling back: worse  (manager, up_1)" in shown
    assert "v2: 9 errors" in shown
    assert platform.asked[0][2] == "limit=50&service=chat"


def test_experiment(platform: Platform) -> None:
    one = view()
    platform.answers = [
        ExperimentView(
            upgrade="up_1",
            service="chat",
            running=True,
            seconds=600,
            split=50,
            exposed=1000,
            old=one.old,
            new=one.new,
            verdict=VERDICT,
            recommendation="wait",
            reason="Wait: about 5000 more requests would tell.",
        )
    ]
    shown = run("experiment", "chat").stdout
    for text in ("50 % to v2", "1000 requests", "+1.00 points", "-1.00 points … +3.00 points", "about 5000"):
        assert text in shown
