"""`moonpool billing` on an API that is played by a table of answers."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from moonpool.cli import api
from moonpool.cli.api import Place
from moonpool.cli.main import app

BALANCE = {
    "object": "balance",
    "organisation": "org_1",
    "currency": "EUR",
    "total": "9.50",
    "granted": "1.00",
    "topped_up": "8.50",
    "overdraft": "2.00",
    "available": "11.50",
    "enforced": True,
    "spent": "3.25",
    "uncollected": "0.00",
}
CREDIT = {
    "id": "crd_1",
    "object": "ledger_entry",
    "at": 1.0,
    "organisation": "org_1",
    "kind": "top_up",
    "reference": "pay_1",
    "author": "user_1",
    "note": "",
    "lines": [],
    "amount": "10.00",
    "repeated": False,
    "balance": BALANCE,
}
ROW = {
    "requests": 2,
    "prompt_tokens": 30,
    "cached_tokens": 10,
    "completion_tokens": 5,
    "reasoning_tokens": 0,
    "total_tokens": 35,
    "cost": "0.000507",
}
USAGE = {
    "object": "usage",
    "currency": "EUR",
    "after": 0.0,
    "before": 1.0,
    "group_by": ["day", "key"],
    "totals": ROW,
    "data": [{**ROW, "day": "2026-11-23", "key": "key_1"}],
    "recent": [],
    "has_more": False,
}


class Platform:
    def __init__(self) -> None:
        self.answer: object = None
        self.asked: list[tuple[str, str, str, object]] = []

    async def exchange(
        self, place: Place, method: str, path: str, query: str, body: bytes | None
    ) -> AsyncIterator[bytes]:
        self.asked.append((method, path, query, json.loads(body) if body else None))
        yield json.dumps(self.answer).encode()


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    platform = Platform()
    monkeypatch.setattr(api, "_exchange", platform.exchange)
    return platform


def run(tmp_path: Path, *words: str) -> str:
    said = CliRunner().invoke(
        app, ["billing", *words, "--url", "http://h:1", "--key", "k", "--data", str(tmp_path)]
    )
    assert said.exit_code == 0, said.output
    return said.stdout


def test_the_balance(platform: Platform, tmp_path: Path) -> None:
    platform.answer = BALANCE
    said = run(tmp_path, "balance")
    assert "9.50 EUR" in said
    assert "11.50 can be spent" in said
    assert "never collected" not in said
    platform.answer = {**BALANCE, "available": None, "enforced": False, "uncollected": "0.10"}
    said = run(tmp_path, "balance", "--organisation", "org_2")
    assert "Nobody is refused" in said
    assert "0.10 of it was never collected" in said
    assert [asked[2] for asked in platform.asked] == ["", "organisation=org_2"]
    assert json.loads(run(tmp_path, "balance", "--json"))["granted"] == "1.00"


def test_credit(platform: Platform, tmp_path: Path) -> None:
    platform.answer = CREDIT
    said = run(tmp_path, "credit", "10.00", "--reference", "pay_1")
    assert "10.00 EUR credited, booked as crd_1" in said
    run(tmp_path, "credit", "5", "--grant", "--note", "hello", "--organisation", "org_2")
    assert [asked[3] for asked in platform.asked] == [
        {"amount": "10.00", "reference": "pay_1"},
        {"amount": "5", "kind": "grant", "note": "hello", "organisation": "org_2"},
    ]
    platform.answer = {**CREDIT, "repeated": True}
    assert "pay_1 was booked before" in run(tmp_path, "credit", "10.00", "--reference", "pay_1")
    assert json.loads(run(tmp_path, "credit", "10.00", "--json"))["repeated"] is True


def test_a_credit_is_taken_back(platform: Platform, tmp_path: Path) -> None:
    platform.answer = {**CREDIT, "amount": "-2.50"}
    assert "2.50 EUR taken back" in run(tmp_path, "credit", "-2.50")
    assert platform.asked[0][3] == {"amount": "-2.50"}


def test_usage(platform: Platform, tmp_path: Path) -> None:
    platform.answer = USAGE
    said = run(tmp_path, "usage", "--by", "day,key", "--days", "7")
    assert "2026-11-23" in said
    assert "0.000507" in said
    assert "group_by=day%2Ckey" in platform.asked[0][2]
    assert json.loads(run(tmp_path, "usage", "--json"))["data"][0]["key"] == "key_1"
