"""`moonpool config`: what is said to the config server, and what people are told."""

import json
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from moonpool.cli import api, config_access
from moonpool.cli.api import Api, CommandFailed
from moonpool.cli.main import app
from moonpool.contracts.documents.wire import Kept, Snapshot, Stored

VIEW = {
    "name": "platform",
    "version": 3,
    "author": "ann",
    "reason": "less",
    "at": 0.0,
    "content": {
        "models": {"gpt-4.1": {"context": 7, "targets": [{"url": "http://x/v1"}]}},
        "gateway": {"host": "::"},
    },
}
OUTCOME = {
    "name": "platform",
    "version": 4,
    "changed": True,
    "changes": [{"path": "gateway.port", "kind": "changed", "old": 1, "new": 2}],
    "takes_effect": "restart",
    "restart": ["gateway.port"],
    "shadowed": [],
}


class Server:
    """Answers every call, and remembers it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self.answer: Any = VIEW
        self.error: CommandFailed | None = None

    def call(self, _api: Any, method: str, path: str, shape: Any, body: bytes | None, query: Any) -> Any:
        self.calls.append((method, path, json.loads(body) if body else None))
        if self.error is not None:
            raise self.error
        return msgspec.convert(self.answer, shape)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(Api, "_call", lambda *given: server.call(*given))
    monkeypatch.setenv("MOONPOOL_URL", "http://127.0.0.1:1")
    return server


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["config", *words])


def test_show_is_yaml_that_up_can_read(server: Server) -> None:
    shown = run("show")
    assert "gpt-4.1:" in shown.stdout
    assert not shown.stdout.startswith("#")
    assert "version 3, by ann" in shown.stderr


@pytest.mark.parametrize(
    ("path", "printed"),
    [("gateway.host", "::"), ('models."gpt-4.1".context', "7"), ("gateway.port", "8080")],
)
def test_get_prints_a_value_or_its_default(server: Server, path: str, printed: str) -> None:
    assert run("get", path).stdout.strip() == printed


def test_get_what_is_not_there(server: Server) -> None:
    failed = run("get", "gateway.prt")
    assert isinstance(failed.exception, CommandFailed)
    assert failed.exception.exit_code == api.REFUSED
    assert run("get", "gateway..port").exit_code == 1


def test_set_tells_what_waits(server: Server) -> None:
    server.answer = OUTCOME
    done = run("set", "gateway.port", "2", "--reason", "why", "--if-version", "3")
    assert server.calls == [
        (
            "PATCH",
            "/admin/config/documents/platform",
            {
                "set": [{"path": "gateway.port", "value": None, "text": "2"}],
                "unset": [],
                "version": 3,
                "reason": "why",
            },
        )
    ]
    assert "~ gateway.port: 1 → 2" in done.stdout
    assert "next start" in done.stderr
    assert json.loads(run("set", "gateway.port", "2", "--json").stdout)["takes_effect"] == "restart"


def test_apply_replaces_the_version_it_has_seen(server: Server, tmp_path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("gateway: {port: 2}\n")

    def call(_api: Any, method: str, path: str, shape: Any, body: bytes | None, query: Any) -> Any:
        server.answer = OUTCOME if method == "PUT" else VIEW
        return Server.call(server, _api, method, path, shape, body, query)

    server.call = call  # type: ignore[method-assign]
    assert run("apply", str(file)).exit_code == 0
    method, path, body = server.calls[-1]
    assert (method, path, body["version"]) == ("PUT", "/admin/config/documents/platform", 3)
    assert body["content"] == {"gateway": {"port": 2}}


def test_a_bad_file_is_told_with_its_line_before_anybody_is_asked(server: Server, tmp_path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("gateway:\n  port: many\n")
    failed = run("validate", str(file))
    assert f"{file}:2" in str(failed.exception)
    assert server.calls == []


def test_a_platform_that_does_not_run_shows_what_it_knew(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("MOONPOOL_URL", raising=False)
    (tmp_path / "run").mkdir()
    assert run("show", "--data", str(tmp_path)).exit_code != 0
    stored = Stored(name="platform", version=2, content={"gateway": {"port": 5}}, author="ann")
    kept = Kept(instance="config-0-1", snapshot=Snapshot(epoch="e", sequence=2, documents=(stored,)))
    (tmp_path / "run" / "documents-config.json").write_bytes(msgspec.json.encode(kept))
    shown = run("show", "--data", str(tmp_path))
    assert "port: 5" in shown.stdout
    assert "knew last" in shown.stderr
    refused = run("set", "gateway.port", "5", "--data", str(tmp_path))
    assert isinstance(refused.exception, CommandFailed)
    assert refused.exception.exit_code == api.NOT_RUNNING
    assert config_access.PATH == "/admin/config"


@pytest.mark.parametrize(
    ("words", "method", "path"),
    [
        (("history", "releases/chat"), "GET", "history/releases/chat"),
        (("show", "releases/chat"), "GET", "documents/releases/chat"),
        (("diff", "releases/chat", "1", "3"), "GET", "diff/releases/chat"),
        (("diff", "1"), "GET", "diff/platform"),
        (("diff", "--document", "releases/chat"), "GET", "diff/releases/chat"),
        (("rollback", "releases/chat", "2"), "POST", "rollback/releases/chat"),
        (("rollback", "2"), "POST", "rollback/platform"),
    ],
)
def test_another_document_is_named_first(
    server: Server, words: tuple[str, ...], method: str, path: str
) -> None:
    answers: dict[str, Any] = {
        "history": {"data": []},
        "diff": {"name": "x", "old": 1, "new": 3, "changes": []},
        "rollback": OUTCOME,
    }
    server.answer = answers.get(words[0], VIEW)
    assert run(*words).exit_code == 0
    assert server.calls[0][:2] == (method, f"/admin/config/{path}")


@pytest.mark.parametrize(
    "words", ["diff a b", "diff 1 2 3", "rollback releases/chat", "rollback 0", "rollback"]
)
def test_what_is_no_version(server: Server, words: str) -> None:
    assert run(*words.split()).exit_code == 2
    assert server.calls == []


def test_a_long_list_is_told_in_one_line(server: Server) -> None:
    long = [
        {"path": f"releases.v2.manifest.routes[{n}].path", "kind": "added", "new": f"/{n}"} for n in range(40)
    ]
    short = [{"path": f"models.m.targets[{n}].url", "kind": "removed", "old": "u"} for n in range(2)]
    server.answer = {"name": "releases/chat", "old": 1, "new": 2, "changes": [*long, *short]}
    said = run("diff", "releases/chat").stdout
    assert "+ releases.v2.manifest.routes[…]: 40 settings" in said
    assert "/39" not in said
    assert '- models.m.targets[1].url: "u"' in said
