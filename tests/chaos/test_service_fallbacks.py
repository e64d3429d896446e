"""Each of the nine services is away for a while, on one real platform: what its users get meanwhile, and that
what was put off is done when it is back.

A service is kept away as it happens in life: its process dies, and cannot start since its database is gone.
"""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from harness.platform import SERVICES, UNCACHED, Answer, Platform, packaged_weights, running, wait_until

pytestmark = pytest.mark.real_model

PATIENCE = {"service_patience": 0.5, "model_patience": 1.0}
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
UPLOAD = (
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{"a": 1}\n\r\n--b--\r\n'
)
JOB = {"model": "smollm2", "training_file": "file_1"}


class Endpoint(BaseHTTPRequestHandler):
    """Another provider, which is always well."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "from elsewhere"}
        answer = {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Stage:
    """The platform, and what a user knows of it; `later` is what was put off, by service."""

    platform: Platform
    conversation: str = ""
    file: str = ""
    known: dict[str, bytes] = field(default_factory=dict)
    later: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> Answer:
        return self.platform.request("GET", path)

    def post(self, path: str, body: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
        return self.platform.request("POST", path, body, headers=headers)

    def learn(self, path: str) -> None:
        answer = self.get(path)
        assert answer.status == 200, answer.body
        self.known[path] = answer.body

    def remembered(self, path: str) -> None:
        """What is answered now is what was answered before, and says so."""
        answer = self.get(path)
        assert (answer.status, answer.headers["x-moonpool-fallback"]) == (200, "service"), answer.body
        assert answer.body == self.known[path]
        assert int(answer.headers["age"]) >= 0

    def refused(self, answer: Answer, code: str) -> None:
        """503 that says when to come back."""
        assert (answer.status, answer.headers["x-moonpool-fallback"]) == (503, "degraded"), answer.body
        assert answer.json()["error"]["code"] == code
        assert int(answer.headers["retry-after"]) >= 1

    @contextmanager
    def away(self, service: str) -> Iterator[None]:
        folder, hidden = self.platform.data / "db", self.platform.data / "hidden"
        hidden.mkdir(exist_ok=True)
        place = folder / f"{service}.db"
        pid = self.platform.pid(service)
        for file in folder.glob(f"{service}.db*"):
            file.rename(hidden / file.name)
        place.mkdir()
        try:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: self.state(service) == "crashed", f"{service} is away")
            yield
        finally:
            place.rmdir()
            for file in folder.glob(f"{service}.db*"):
                file.unlink()
            for file in hidden.glob(f"{service}.db*"):
                file.rename(folder / file.name)

    def state(self, service: str) -> str:
        return str(self.platform.modules()[service]["state"])


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    endpoint = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=endpoint.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{endpoint.server_address[1]}/v1"
    local = [{"local": packaged_weights()}]
    config: dict[str, Any] = {
        "models": {
            "smollm2": {"targets": local},
            "safe": {"targets": local, "fallbacks": ["elsewhere"]},
            "elsewhere": {"targets": [{"url": url, "model": "m"}]},
        },
        "resilience": {"restart": PATIENCE},
    }
    with running(tmp_path_factory.mktemp("fallbacks") / "data", config) as platform:
        stage = Stage(platform)
        stage.conversation = f"/api/conversations/{made(stage.post('/api/conversations', {'title': 'x'}))}"
        made(stage.post(f"{stage.conversation}/messages", say("Hello.")))
        stage.file = f"/v1/files/{made(stage.post('/v1/files', UPLOAD, FORM))}"
        for path in ("/api/auth/keys", "/api/users/me", f"{stage.conversation}/messages", "/v1/models"):
            stage.learn(path)
        for path in ("/v1/fine_tuning/jobs", "/api/monitoring/summary", "/api/billing/usage", "/"):
            stage.learn(path)
        for path in ("/v1/files", f"{stage.file}/content"):
            stage.learn(path)
        yield stage
    endpoint.shutdown()
    endpoint.server_close()


def made(answer: Answer) -> str:
    assert answer.status in (200, 201), answer.body
    id: str = answer.json()["id"]
    return id


def say(text: str) -> dict[str, Any]:
    return {"content": text, "stream": False, "max_tokens": 4}


def test_auth(stage: Stage) -> None:
    with stage.away("auth"):
        assert stage.get("/v1/models").status == 200
        assert "x-moonpool-fallback" not in stage.get("/v1/models").headers
        unknown = stage.platform.request("GET", "/v1/models", key="sk-mp-of-somebody-unknown")
        assert unknown.status == 503  # and never 401: it may be a good one
        assert int(unknown.headers["retry-after"]) >= 1
        stage.remembered("/api/auth/keys")
        stage.refused(stage.post("/api/auth/keys", {"name": "new"}), "read_only")
        revoked = stage.platform.request("DELETE", "/api/auth/keys/key_1")
        stage.refused(revoked, "not_revoked")


def test_user(stage: Stage) -> None:
    with stage.away("user"):
        stage.remembered("/api/users/me")
        stage.refused(stage.platform.request("PATCH", "/api/users/me", {"display_name": "Jo"}), "read_only")


def test_chat(stage: Stage) -> None:
    with stage.away("chat"):
        stage.remembered(f"{stage.conversation}/messages")
        answer = stage.post(f"{stage.conversation}/messages", say("And now?"))
        assert (answer.status, answer.headers["x-moonpool-fallback"]) == (201, "service"), answer.body
        assert answer.json()["content"]
        stage.later["chat"] = answer.json()["id"]
        stage.refused(stage.post("/api/conversations", {"title": "y"}), "read_only")


def test_model(stage: Stage) -> None:
    with stage.away("model"):
        stage.remembered("/v1/models")
        one = stage.get("/v1/models/smollm2")
        assert (one.status, one.headers["x-moonpool-fallback"]) == (200, "service")
        assert one.json() in json.loads(stage.known["/v1/models"])["data"]
        assert stage.platform.chat("Hi", headers=UNCACHED, max_tokens=1).status == 200
        put = stage.platform.request(
            "PUT", "/admin/models/x", {"targets": [{"url": "http://127.0.0.1:1/v1"}]}
        )
        stage.refused(put, "read_only")


def test_training(stage: Stage) -> None:
    with stage.away("training"):
        accepted = stage.post("/v1/fine_tuning/jobs", JOB)
        assert (accepted.status, accepted.headers["x-moonpool-fallback"]) == (202, "service"), accepted.body
        assert accepted.json()["status"] == "queued"
        stage.later["training"] = accepted.headers["location"]
        assert stage.get(accepted.headers["location"]).status == 202
        assert stage.post("/v1/fine_tuning/jobs", {"model": 7}).status == 400
        stage.remembered("/v1/fine_tuning/jobs")


def test_monitoring(stage: Stage) -> None:
    with stage.away("monitoring"):
        stage.remembered("/api/monitoring/summary")
        stage.later["monitoring"] = stage.get("/v1/nothing").headers["x-request-id"]
        own = stage.get("/internal/metrics").body.decode()
        assert 'kind="service",service="monitoring"}' in own


def test_storage(stage: Stage) -> None:
    with stage.away("storage"):
        for path in ("/", "/v1/files", f"{stage.file}/content"):
            stage.remembered(path)
        stage.refused(stage.post("/v1/files", UPLOAD, FORM), "upload_refused")


def test_billing(stage: Stage) -> None:
    with stage.away("billing"):
        stage.remembered("/api/billing/usage")
        answer = stage.platform.chat("Hi", headers=UNCACHED, max_tokens=2)
        assert answer.status == 200
        stage.later["billing"] = answer.headers["x-request-id"]


def test_inference(stage: Stage) -> None:
    known = stage.platform.chat("Say yes.", temperature=0, max_tokens=4)
    with stage.away("inference"):
        again = stage.platform.chat("Say yes.", temperature=0, max_tokens=4)
        assert (again.status, again.headers["x-moonpool-cache"]) == (200, "hit")
        stale = stage.platform.chat(
            "Say yes.", headers={"Cache-Control": "max-age=0"}, temperature=0, max_tokens=4
        )
        assert (stale.status, stale.headers["x-moonpool-fallback"]) == (200, "stale")
        assert stale.json()["choices"] == known.json()["choices"]
        other = stage.platform.chat("Hi", model="safe")
        assert (other.status, other.headers["x-moonpool-fallback"]) == (200, "failover")
        assert other.json()["choices"][0]["message"]["content"] == "from elsewhere"
        lenient = stage.platform.chat("Hi", headers={"Prefer": "handling=lenient"})
        assert (lenient.status, lenient.headers["x-moonpool-fallback"]) == (200, "degraded")
        assert lenient.json()["degraded"]["cause"] == "no_instance"
        refused = stage.platform.chat("Hi", seed=3)
        stage.refused(refused, "no_instance")
        stage.later["inference"] = refused.headers["x-moonpool-dead-letter"]


def test_what_was_put_off_is_done(stage: Stage) -> None:
    wait_until(lambda: all(stage.state(each) == "ready" for each in SERVICES), "all are back", 40)

    def messages() -> list[str]:
        return [each["id"] for each in stage.get(f"{stage.conversation}/messages").json()["data"]]

    wait_until(lambda: stage.later["chat"] in messages(), "the exchange is in the conversation")
    assert messages().count(stage.later["chat"]) == 1
    assert len(messages()) == 4
    job = wait_until(
        lambda: (found := stage.get(stage.later["training"])).status != 202 and found,
        "the job is handed over",
    ).json()
    assert job["object"] == "fine_tuning.job"
    assert [each["id"] for each in stage.get("/v1/fine_tuning/jobs").json()["data"]] == [job["id"]]
    for service, path in (("billing", "/api/billing/usage/"), ("monitoring", "/admin/requests/")):
        wait_until(
            lambda where=path + stage.later[service]: stage.get(where).status == 200,  # type: ignore[misc]
            f"{service} has what it missed",
        )
    files = stage.get("/v1/files").json()["data"]
    assert [each["id"] for each in files] == [stage.file.rpartition("/")[2]]
    letter = stage.get(f"/admin/dlq/{stage.later['inference']}").json()
    assert (letter["state"], letter["cause"]) == ("dead", "no_instance")
    assert stage.get("/v1/models").headers.get("x-moonpool-fallback") is None


def test_the_causes_are_ranked(stage: Stage) -> None:
    data = stage.get("/admin/fallbacks?limit=100").json()["data"]
    recent = [each["recent"] for each in data]

    assert recent == sorted(recent, reverse=True)
    assert {each["service"] for each in data} == SERVICES
    assert {each["kind"] for each in data} >= {"service", "degraded", "stale", "dead_letter"}
    # What is sent before the gateway knows is turned away by the supervisor.
    causes = {each["cause"] for each in data if each["kind"] != "dead_letter"}
    assert "no_instance" in causes
    assert causes <= {"no_instance", "upstream_reset"}
    top = stage.get("/admin/fallbacks?service=inference&kind=degraded&limit=1").json()["data"][0]
    assert (top["route"], top["count"]) == ("POST /v1/chat/completions", 2)
    explained = stage.platform.command("explain", top["request_id"])
    assert "no instance of inference is ready" in explained.stdout, explained.stderr
