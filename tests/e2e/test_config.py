"""The configuration is changed while the platform runs: every process follows, nothing else notices."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from harness.platform import MODULES, Answer, Platform, running, wait_until
from moonpool.cli import release_documents
from moonpool.cli.release_documents import ReleaseDocuments
from moonpool.contracts.releases import Release

USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def whole(model: str) -> bytes:
    message = {"role": "assistant", "content": model}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    kind = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model}
    return json.dumps({**kind, "choices": [choice], "usage": USAGE}).encode()


def stream(model: str) -> bytes:
    kind = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    delta = {"role": "assistant", "content": model}
    chunks: list[dict[str, Any]] = [
        {**kind, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**kind, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {**kind, "choices": [], "usage": USAGE},
    ]
    events = [*map(json.dumps, chunks), "[DONE]"]
    return "".join(f"data: {event}\n\n" for event in events).encode()


class Endpoint(BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint that says which model it was asked for."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        streamed = bool(asked.get("stream"))
        body = (stream if streamed else whole)(asked["model"])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if streamed else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


@pytest.fixture(scope="module")
def document(endpoint: str) -> dict[str, Any]:
    return {"models": {"first": {"targets": [{"url": endpoint}]}}}


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("config") / "data", document) as platform:
        yield platform


def config(platform: Platform, *words: str) -> "subprocess.CompletedProcess[str]":
    return platform.command("config", *words)


def outcome(platform: Platform, *words: str) -> dict[str, Any]:
    done = config(platform, *words, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def version(platform: Platform) -> int:
    return int(outcome(platform, "show")["version"])


def kept(platform: Platform) -> dict[str, tuple[int, bool, float]]:
    """What each process has: version, whether it hears the server, and since when (Unix seconds)."""
    found = {}
    for file in (platform.data / "run").glob("documents-*.json"):
        said = json.loads(file.read_text())
        found[said["instance"].partition("-")[0]] = (said["version"], said["live"], file.stat().st_mtime)
    return found


def everywhere(platform: Platform, wanted: int) -> dict[str, tuple[int, bool, float]]:
    def reached() -> dict[str, tuple[int, bool, float]] | None:
        now = kept(platform)
        return now if set(now) == MODULES and all(one[0] == wanted for one in now.values()) else None

    return wait_until(reached, f"every process has version {wanted}", 10) or {}


def test_the_file_is_the_first_version(changed: Platform, document: dict[str, Any]) -> None:
    first = outcome(changed, "show", "--version", "1")

    assert first["author"] == "file"
    assert first["content"] == document


def test_a_change_reaches_every_process_within_a_second(changed: Platform, record_property: Any) -> None:
    latest = []
    for number in (501, 502, 503):
        done = outcome(changed, "set", "limits.default.requests_per_minute", str(number))
        at = outcome(changed, "show")["at"]
        latest.append(max(one[2] for one in everywhere(changed, done["version"]).values()) - at)
    record_property("seconds", latest)
    print("seconds until the last process had it:", [round(one, 3) for one in latest])

    assert min(latest) < 1.0


def test_a_new_model_is_served_and_a_removed_one_is_not(changed: Platform, endpoint: str) -> None:
    target = json.dumps([{"url": endpoint, "model": "there"}])
    assert changed.chat("Hi", model="second").status == 404
    outcome(changed, "set", "models.second.targets", target)
    answer = answered(changed, "second", 200)
    assert answer.json()["choices"][0]["message"]["content"] == "there"
    outcome(changed, "unset", "models.second")
    answered(changed, "second", 404)
    assert changed.chat("Hi", model="first").status == 200


def test_a_conversation_takes_the_model_that_is_first_now(changed: Platform, endpoint: str) -> None:
    first = outcome(changed, "show")["content"]["models"]["first"]
    other = {"targets": [{"url": endpoint, "model": "another"}]}
    done = outcome(changed, "set", "models", json.dumps({"other": other, "first": first}))
    everywhere(changed, done["version"])
    answered(changed, "other", 200)
    created = changed.request("POST", "/api/conversations", {}).json()
    path = f"/api/conversations/{created['id']}/messages"
    answer = changed.request("POST", path, {"content": "Hi", "stream": False})
    assert answer.json()["content"] == "another"
    outcome(changed, "rollback", str(done["version"] - 1))
    answered(changed, "other", 404)


def answered(platform: Platform, model: str, status: int) -> Answer:
    def asked() -> Answer | None:
        answer = platform.chat("Hi", model=model)
        return answer if answer.status == status else None

    found = wait_until(asked, f"{model} answers {status}", 5)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("set", "gateway.prt", "1"), "gateway has no setting prt"),
        (("set", "gateway.port", "many"), "gateway.port cannot be 'many'"),
        (("set", "models.first.targets[0].url", "ftp://nowhere"), "models.first.targets[0].url"),
        (("set", "models.first.fallbacks", '["missing"]'), "there is no model missing"),
        (("unset", "models.nobody"), "is not in the document"),
        (("set", 'routes."POST /v1/chat".enabled', "false"), "no service has the route POST /v1/chat"),
    ],
)
def test_what_cannot_be_changes_nothing(changed: Platform, words: tuple[str, ...], told: str) -> None:
    before = version(changed)
    refused = config(changed, *words)

    assert refused.returncode == 1
    assert told in refused.stderr
    assert version(changed) == before
    assert outcome(changed, "audit", "--limit", "1")["data"][0]["action"] == "refused"


def test_of_two_writers_one_wins(changed: Platform) -> None:
    present = version(changed)
    command = ("config", "set", "limits.default.concurrent")
    writers = [
        threading.Thread(
            target=lambda n=number: codes.append(  # type: ignore[misc]
                changed.command(*command, str(n), "--if-version", str(present)).returncode
            )
        )
        for number in (7, 8)
    ]
    codes: list[int] = []
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert sorted(codes) == [0, 1]
    assert version(changed) == present + 1


def test_what_waits_for_a_start_is_told(changed: Platform) -> None:
    done = outcome(changed, "set", "gateway.port", "9")
    assert (done["takes_effect"], done["restart"]) == ("restart", ["gateway.port"])
    everywhere(changed, done["version"])
    standing = json.loads(changed.command("status", "--json").stdout)["configuration"]
    assert set(standing["pending"]) == {"gateway.port"}

    back = outcome(changed, "rollback", str(done["version"] - 1))
    assert back["takes_effect"] == "now"
    everywhere(changed, back["version"])
    assert json.loads(changed.command("status", "--json").stdout)["configuration"]["pending"] == {}


def test_a_route_follows_on_connections_that_are_open(changed: Platform) -> None:
    chat = 'routes."POST /v1/chat/completions"'
    kept = Kept(changed)
    assert kept.ask("GET", "/v1/models")[0] == 200
    assert kept.chat("first")[0] == 200

    off = ("set", 'routes."GET /v1/models"', '{"enabled": false, "notice": "Until Monday."}')
    done = outcome(changed, *off)
    assert done["takes_effect"] == "now"
    everywhere(changed, done["version"])
    status, headers, body = kept.ask("GET", "/v1/models")
    assert (status, headers["x-should-retry"]) == (503, "false")
    assert json.loads(body)["error"]["code"] == "route_disabled"
    assert "Until Monday." in json.loads(body)["error"]["message"]
    assert changed.request("GET", "/v1/models", key="").status == 401  # strangers are told nothing
    assert kept.chat("first")[0] == 200

    everywhere(changed, outcome(changed, "set", f"{chat}.body_limit", "10")["version"])
    assert kept.chat("first")[0] == 413
    kept = Kept(changed)  # the rest of that body is nobody's
    done = outcome(changed, "unset", "routes")
    everywhere(changed, done["version"])
    assert kept.ask("GET", "/v1/models")[0] == kept.chat("first")[0] == 200


def test_resilience_follows_in_every_process_that_calls(changed: Platform) -> None:
    outcome(changed, "set", "models.dead.targets", '[{"url": "http://127.0.0.1:9/v1"}]')
    assert answered(changed, "dead", 503).headers["x-moonpool-attempts"] == "3"

    done = outcome(changed, "set", "resilience.retry.attempts", "1")
    assert (done["takes_effect"], done["restart"]) == ("now", [])
    everywhere(changed, done["version"])
    assert changed.chat("Hi", model="dead").headers["x-moonpool-attempts"] == "1"
    log = changed.logs()
    for module in sorted(MODULES - {"config"}):
        assert [line for line in log.splitlines() if "resilience changed" in line and module in line], module
    done = outcome(changed, "unset", "resilience", "models.dead")
    everywhere(changed, done["version"])


class Kept:
    """One connection for all that is asked."""

    def __init__(self, platform: Platform) -> None:
        address = urlsplit(platform.url)
        self._connection = HTTPConnection(address.hostname or "", address.port, timeout=20)
        self._key = platform.key

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, str], bytes]:
        sent = None if body is None else json.dumps(body)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        before = self._connection.sock
        self._connection.request(method, path, sent, headers)
        assert before in (None, self._connection.sock), "it was made again"
        answer = self._connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def chat(self, model: str) -> tuple[int, dict[str, str], bytes]:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
        return self.ask("POST", "/v1/chat/completions", body)


def test_the_log_level_follows_everywhere(changed: Platform) -> None:
    done = outcome(changed, "set", "telemetry.log_level", "error")
    everywhere(changed, done["version"])
    outcome(changed, "unset", "telemetry.log_level")


def test_all_goes_on_while_the_config_server_is_killed(changed: Platform) -> None:
    pid = changed.modules()["config"]["pid"]
    os.kill(pid, signal.SIGKILL)
    assert changed.chat("Hi", model="first").status == 200
    wait_until(
        lambda: (one := changed.modules()["config"])["state"] == "ready" and one["pid"] != pid,
        "the config server is back",
    )
    done = outcome(changed, "set", "limits.default.requests_per_minute", "777")
    assert all(live for _, live, _ in everywhere(changed, done["version"]).values())
    assert changed.chat("Hi", model="first").status == 200


@pytest.mark.slow
def test_a_start_without_the_database_is_from_the_snapshots(
    tmp_path: Path, document: dict[str, Any], endpoint: str
) -> None:
    data = tmp_path / "data"
    with running(data, document) as platform:
        done = outcome(platform, "set", "models.second.targets", json.dumps([{"url": endpoint}]))
        everywhere(platform, done["version"])
    for file in (data / "db").glob("config.db*"):
        file.unlink()
    (data / "db" / "config.db").write_bytes(b"this is no database" * 1000)
    with running(data, document) as platform:
        assert platform.chat("Hi", model="second").status == 200
        server = platform.modules()["config"]
        assert server["state"] == "degraded"
        assert "last known documents" in server["reason"]
        assert outcome(platform, "show")["stale"] is True
        refused = config(platform, "set", "limits.default.concurrent", "3")
        assert refused.returncode == 5
        assert "database" in refused.stderr
        (data / "db" / "config.db").unlink()
        wait_until(lambda: platform.modules()["config"]["state"] == "ready", "the database is made again", 40)
        assert outcome(platform, "show")["content"]["models"].keys() == {"first", "second"}
        assert config(platform, "set", "limits.default.concurrent", "3").returncode == 0


def test_admins_change_documents_through_the_gateway(changed: Platform) -> None:
    path = "/admin/config/documents/platform"
    shown = changed.request("GET", path)
    assert shown.status == 200
    present = shown.json()["version"]
    assert shown.headers["etag"] == f'"{present}"'
    assert changed.request("GET", path, key="").status == 401

    body = {"content": shown.json()["content"], "version": present - 1}
    late = changed.request("PUT", path, body)
    assert (late.status, late.json()["error"]["code"]) == (409, "version_conflict")
    assert late.headers["etag"] == f'"{present}"'
    del body["version"]
    assert changed.request("PUT", path, body).json()["error"]["code"] == "version_required"
    stale = changed.request("PUT", path, body, headers={"If-Match": f'"{present - 1}"'})
    assert stale.status == 412
    bad = changed.request("PATCH", path, {"set": [{"path": "models.first.targets[0].weight", "value": -1}]})
    assert (bad.status, bad.json()["error"]["param"]) == (422, "models.first.targets[0].weight")
    good = changed.request("PATCH", path, {"set": [{"path": "limits.default.burst", "value": 50}]})
    assert (good.status, good.json()["version"]) == (200, present + 1)


def labels(platform: Platform) -> set[str]:
    """Of the chat service's releases, on the supervisor's shelf."""
    file = platform.data / "releases" / "list.json"
    found = json.loads(file.read_text())["releases"] if file.exists() else []
    return {one["release"]["label"] for one in found if one["release"]["service"] == "chat"}


def test_releases_are_documents_that_the_supervisor_follows(changed: Platform, record_property: Any) -> None:
    for label in ("r1", "r2"):
        done = changed.command("release", "add", "chat", label, "--note", f"as {label}")
        assert done.returncode == 0, done.stderr
    assert labels(changed) == {"r1", "r2"}
    history = outcome(changed, "history", "releases/chat")["data"]
    assert [one["reason"] for one in history] == ["r2 added: as r2", "r1 added: as r1"]
    assert all(one["author"].startswith("operator:") for one in history)
    assert "+ releases.r2.note" in config(changed, "diff", "releases/chat").stdout

    latest = []
    for version, expected in ((1, {"r1"}), (2, {"r1", "r2"}), (1, {"r1"})):
        outcome(changed, "rollback", "releases/chat", str(version))
        wait_until(lambda wanted=expected: labels(changed) == wanted, "the supervisor has it", 10)  # type: ignore[misc]
        at = outcome(changed, "show", "releases/chat")["at"]
        latest.append((changed.data / "releases" / "list.json").stat().st_mtime - at)
    record_property("seconds", latest)
    print("seconds until the supervisor had it:", [round(one, 3) for one in latest])
    assert min(latest) < 1.0


def test_a_config_server_killed_before_the_supervisor_heard_tells_it_when_it_is_back(
    changed: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_documents, "PATIENCE", 0.1)
    supervisor = int((changed.data / "moonpool.lock").read_text())
    pid = changed.modules()["config"]["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    try:
        ReleaseDocuments(changed.data).add(Release(service="chat", label="k1"))
        assert "k1" not in labels(changed)
        os.kill(pid, signal.SIGKILL)
        listed = changed.command("release", "list", "chat")
        assert listed.returncode == 0
        assert "k1" not in listed.stdout
    finally:
        os.kill(supervisor, signal.SIGCONT)
    wait_until(lambda: "k1" in labels(changed), "the supervisor has heard of it", 20)
    assert changed.command("release", "remove", "chat", "k1").returncode == 0


def test_what_a_document_of_releases_cannot_say(changed: Platform, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    source = {"kind": "venv", "path": str(tmp_path / "venv")}
    release = {"service": "storage", "label": "w2", "source": source}
    document = {"service": "storage", "releases": {"w2": release}}

    def apply(content: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
        (tmp_path / "d.json").write_text(json.dumps(content))
        return config(changed, "apply", str(tmp_path / "d.json"), "--document", "releases/storage")

    assert apply(document).returncode == 0
    another = apply({"service": "storage", "releases": {"w2": {**release, "note": "else"}}})
    assert (another.returncode, "releases do not change" in another.stderr) == (1, True)
    assert apply({"service": "storage"}).returncode == 0
    python.unlink()
    back = config(changed, "rollback", "releases/storage", "1")
    assert back.returncode == 1
    assert "releases.w2: storage@w2 cannot come back: its virtual environment is gone" in back.stderr
    through = changed.request(
        "PUT", "/admin/config/documents/releases/storage", {"content": document, "version": 2}
    )
    assert (through.status, through.json()["error"]["code"]) == (403, "not_local")
    assert changed.request("GET", "/admin/config/documents/releases/storage").json()["version"] == 2


def test_a_limit_holds_at_once(changed: Platform) -> None:
    key = json.loads(changed.command("keys", "create", "--role", "member", "--json").stdout)["key"]
    assert changed.request("GET", "/v1/models", key=key).status == 200
    done = outcome(changed, "set", "limits.default", '{"requests_per_minute": 1, "burst": 1}')
    everywhere(changed, done["version"])
    statuses = {changed.request("GET", "/v1/models", key=key).status for _ in range(4)}
    assert 429 in statuses
    outcome(changed, "unset", "limits.default")
