"""`moonpool keys` and `moonpool models` on an API that is played by a table of answers."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from moonpool.cli import api
from moonpool.cli.api import Place, failure
from moonpool.cli.keys import parse_expiry
from moonpool.cli.main import app
from moonpool.core.errors import MoonpoolError
from moonpool.core.principal import Role

KEY = {
    "id": "key_1",
    "object": "api_key",
    "name": "laptop",
    "hint": "sk-mp-1…",
    "user": "user_1",
    "role": "member",
    "scopes": ["chat"],
    "limits": {"concurrent": 3},
    "status": "active",
    "created_at": 1_700_000_000.0,
    "expires_at": None,
    "last_used_at": None,
    "revoked_at": None,
}
MODEL = {
    "id": "m",
    "object": "model",
    "created": 1,
    "owned_by": "o",
    "context": 4096,
    "capabilities": ["chat"],
}
DETAIL = {
    **MODEL,
    "targets": [
        {"id": "t1", "url": "", "model": "m"},
        {"id": "t2", "url": "http://x/v1", "model": "there", "weight": 2, "priority": 1},
    ],
    "fallbacks": ["n"],
    "source": "config",
    "revision": "r",
    "overrides": False,
}

LEFT = {"amount": "5.00", "spent": "1.00", "left": "4.00", "currency": "USD"}


class Platform:
    """Answers by (method, path): a body, or a status of 400 and above. Notes what was asked."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], list[object]] = {}
        self.asked: list[tuple[str, str, str, object]] = []

    async def exchange(
        self, place: Place, method: str, path: str, query: str, body: bytes | None
    ) -> AsyncIterator[bytes]:
        self.asked.append((method, path, query, json.loads(body) if body else None))
        answer = self.answers[method, path].pop(0)
        if isinstance(answer, int):
            raise failure(place, answer, b'{"error": {"message": "no", "code": "x"}}', "")
        yield json.dumps(answer).encode()


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    played = Platform()
    monkeypatch.setattr(api, "_exchange", played.exchange)
    return played


def run(*words: str):
    return CliRunner().invoke(app, [*words, "--url", "http://x", "--key", "k"])


def test_create_prints_the_key_alone_on_stdout(platform: Platform) -> None:
    platform.answers["POST", "/api/auth/keys"] = [{**KEY, "key": "sk-mp-1-2"}]
    shown = run(
        "keys", "create", "--name", "laptop", "--scope", "chat", "--scope", "usage", "--concurrent", "3"
    )
    assert shown.exit_code == 0, shown.output
    assert shown.stdout == "sk-mp-1-2\n"
    assert "laptop" in shown.stderr
    ((_, _, _, body),) = platform.asked
    assert body == {"name": "laptop", "scopes": ["chat", "usage"], "limits": {"concurrent": 3}}


def test_create_with_an_expiry_as_json(platform: Platform) -> None:
    platform.answers["POST", "/api/auth/keys"] = [{**KEY, "key": "sk-mp-1-2"}]
    shown = run("keys", "create", "--expires", "30d", "--role", "viewer", "--json")
    assert json.loads(shown.stdout)["key"] == "sk-mp-1-2"
    body = platform.asked[0][3]
    assert body["role"] == "viewer"
    assert body["expires_at"] == pytest.approx(time.time() + 30 * 86_400, abs=60)


def test_list_follows_the_pages(platform: Platform) -> None:
    platform.answers["GET", "/api/auth/keys"] = [
        {"object": "list", "data": [KEY], "has_more": True},
        {"object": "list", "data": [{**KEY, "id": "key_0"}], "has_more": False},
    ]
    shown = run("keys", "list", "--json")
    assert [key["id"] for key in json.loads(shown.stdout)["data"]] == ["key_1", "key_0"]
    assert [query for _, _, query, _ in platform.asked] == [
        "limit=100&include_revoked=false",
        "limit=100&after=key_1&include_revoked=false",
    ]


def test_list_as_a_table(platform: Platform) -> None:
    platform.answers["GET", "/api/auth/keys"] = [{"data": [KEY], "has_more": False}]
    shown = run("keys", "list").stdout
    assert "key_1" in shown
    assert "laptop" in shown


@pytest.mark.parametrize(
    "odd",
    [
        {"expires_at": 1e300},
        {"created_at": -1e300, "last_used_at": 1e18},
        {"name": "\x00"},
        {"name": "[/red]"},
        {"budget": {"amount": "5.00", "period": "aeon"}},
    ],
)
def test_no_stored_key_breaks_the_list(platform: Platform, odd: dict[str, object]) -> None:
    platform.answers["GET", "/api/auth/keys"] = [{"data": [{**KEY, **odd}, KEY], "has_more": False}]
    platform.answers["GET", "/api/billing/budgets"] = [
        {"object": "list", "data": [{"key": "key_1", "renews_at": 1e300, **LEFT}], "has_more": False}
    ]
    shown = run("keys", "list")
    assert shown.exit_code == 0, shown.output
    assert "laptop" in shown.stdout


def test_names_command_no_terminal_and_are_no_markup(platform: Platform) -> None:
    names = [{**KEY, "name": name} for name in ("\x1b[2Jgone", "[bold]x", "a\x9bb", ":fire:")]
    platform.answers["GET", "/api/auth/keys"] = [{"data": names, "has_more": False}]
    shown = run("keys", "list").stdout
    for name in (r"\x1b[2Jgone", "[bold]x", r"a\x9bb", ":fire:"):
        assert name in shown
    assert "\x1b" not in shown


def test_a_role_that_is_none_names_those_there_are(platform: Platform) -> None:
    shown = run("keys", "create", "--role", "bogus")
    assert shown.exit_code == 2
    assert all(role in shown.output for role in Role)
    assert not platform.asked


def test_revoke_several(platform: Platform) -> None:
    for key_id in ("key_1", "..%2Fx"):
        platform.answers["DELETE", f"/api/auth/keys/{key_id}"] = [{"id": key_id, "deleted": True}]
    assert run("keys", "revoke", "key_1", "../x").exit_code == 0
    assert [path for _, path, _, _ in platform.asked] == ["/api/auth/keys/key_1", "/api/auth/keys/..%2Fx"]


def test_a_refusal_is_raised_for_main(platform: Platform) -> None:
    platform.answers["DELETE", "/api/auth/keys/key_1"] = [409]
    failed = run("keys", "revoke", "key_1").exception
    assert isinstance(failed, MoonpoolError)
    assert failed.message == "no (x)"


def test_models_with_targets_for_admins(platform: Platform) -> None:
    platform.answers["GET", "/admin/models"] = [{"object": "list", "data": [DETAIL], "version": 3}] * 2
    shown = run("models").stdout
    assert "t1  local (m)" in shown
    assert "http://x/v1 (there) priority 1 weight 2" in shown
    assert "4096" in shown
    assert json.loads(run("models", "--json").stdout)["data"][0]["targets"][1]["model"] == "there"


def test_models_without_targets_for_others(platform: Platform) -> None:
    platform.answers["GET", "/admin/models"] = [403]
    platform.answers["GET", "/v1/models"] = [{"object": "list", "data": [MODEL]}]
    assert "4096" in run("models").stdout


def test_models_of_a_platform_that_is_away(platform: Platform) -> None:
    platform.answers["GET", "/admin/models"] = [503]
    assert isinstance(run("models").exception, MoonpoolError)


def test_an_answer_that_makes_no_sense(platform: Platform) -> None:
    platform.answers["GET", "/admin/models"] = [["surprise"]]
    assert "not what it should be" in str(run("models").exception)


def test_recover_leaves_its_request_for_the_next_start(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["keys", "recover", "--data", str(tmp_path)])
    assert shown.exit_code == 0
    assert "next `moonpool up`" in shown.stderr
    assert (tmp_path / "admin.key.recover").exists()


def test_recover_without_a_folder(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["keys", "recover", "--data", str(tmp_path / "none")])
    assert shown.exit_code == 1
    assert "--data" in shown.stderr


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("12h", 1000 + 12 * 3600),
        ("30d", 1000 + 30 * 86_400),
        ("2w", 1000 + 14 * 86_400),
        ("2030-01-31", 1_896_048_000),
        ("2030-01-31T01:00:00+01:00", 1_896_048_000),
    ],
)
def test_expiry(text: str, moment: float) -> None:
    assert parse_expiry(text, 1000.0) == moment


@pytest.mark.parametrize("text", ["", "soon", "30", "-1d", "30m", "2030-13-01", "9" * 30 + "d"])
def test_no_expiry(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_expiry(text, 1000.0)


BUDGET = {"amount": "5.00", "period": "month"}
TOLD = {
    **BUDGET,
    "key": "key_1",
    "currency": "EUR",
    "spent": "3.80",
    "left": "1.20",
    "renews_at": 1_764_547_200,
}


def test_create_with_a_budget_that_nothing_counts_against(platform: Platform) -> None:
    platform.answers["POST", "/api/auth/keys"] = [
        {**KEY, "key": "sk-mp-1-2", "budget": BUDGET, "warning": "no model has a price"}
    ]
    shown = run("keys", "create", "--budget", "5.00", "--budget-period", "month")
    assert (shown.exit_code, shown.stdout) == (0, "sk-mp-1-2\n"), shown.output
    assert "may spend 5.00 a month" in shown.stderr
    assert "no model has a price" in shown.stderr
    assert platform.asked[0][3]["budget"] == BUDGET


def test_a_period_that_there_is_not(platform: Platform) -> None:
    shown = run("keys", "create", "--budget", "5.00", "--budget-period", "week")
    assert shown.exit_code == 2
    assert platform.asked == []


def test_list_with_what_is_left(platform: Platform) -> None:
    page = {"data": [{**KEY, "budget": BUDGET}, {**KEY, "id": "key_0"}], "has_more": False}
    platform.answers["GET", "/api/auth/keys"] = [page, page]
    platform.answers["GET", "/api/billing/budgets"] = [{"data": [TOLD], "has_more": False}, 503]
    first = json.loads(run("keys", "list", "--json").stdout)["data"][0]
    assert first["budget"] == {
        **BUDGET,
        **{name: TOLD[name] for name in ("currency", "spent", "left", "renews_at")},
    }
    shown = run("keys", "list").stdout  # and billing is away
    assert "5.00 a month" in shown
    assert "?" in shown


@pytest.mark.parametrize(("amount", "wish"), [("20", {"amount": "20", "period": "month"}), ("none", None)])
def test_another_budget(platform: Platform, amount: str, wish: object) -> None:
    platform.answers["PUT", "/api/auth/keys/key_1/budget"] = [{**KEY, "budget": BUDGET if wish else None}]
    platform.answers["GET", "/api/billing/budgets"] = [{"data": [TOLD], "has_more": False}]
    shown = run("keys", "budget", "key_1", amount, "--budget-period", "month")
    assert shown.exit_code == 0, shown.output
    assert ("left: 1.20, renews 2025-12-01" in shown.stderr) == (wish is not None)
    assert platform.asked[0][3] == {"budget": wish}
