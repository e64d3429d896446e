"""`kill -9` of each of the ten processes in turn, under light load: it comes back, nobody else notices who
need not, and every completed answer is billed exactly once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from harness.books import billed
from harness.platform import MODULES, UNCACHED, Platform, packaged_weights, running, wait_until

pytestmark = pytest.mark.real_model

LOCAL, REMOTE = "local", "remote"
NEEDS = {LOCAL: {"gateway", "inference"}, REMOTE: {"gateway"}}
"""What an answer of each model cannot do without; all else must be able to die unnoticed."""
BILLED = 30.0
"""Seconds after the last kill by which all must be in billing's books."""
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


class Endpoint(BaseHTTPRequestHandler):
    """A remote OpenAI-compatible endpoint that is always well."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        choice = b'{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}'
        body = b'{"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": ['
        body += choice + b'], "usage": ' + repr(USAGE).replace("'", '"').encode() + b"}"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass(frozen=True)
class Try:
    """One request. `error` says why there is no answer 200; `usage` is what the answer said."""

    model: str
    at: float
    request_id: str
    error: str
    usage: dict[str, int] = field(default_factory=dict)


class Load:
    """One request after the other for each model, until it is stopped."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(model,)) for model in NEEDS]
        self.tries: list[Try] = []
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, model: str) -> None:
        while not self._over.wait(0.05):
            self.tries.append(self._once(model))

    def _once(self, model: str) -> Try:
        at = time.monotonic()
        try:
            answer = self._platform.chat("Hi", model=model, headers=UNCACHED, max_tokens=3, temperature=0)
        except (OSError, HTTPException) as error:
            return Try(model, at, "", repr(error))
        request_id = answer.headers.get("x-request-id", "")
        if answer.status != 200:
            return Try(model, at, request_id, f"{answer.status} {answer.body[:300]!r}")
        return Try(model, at, request_id, "", answer.json()["usage"])

    def good_since(self, at: float, model: str) -> int:
        return sum(1 for each in self.tries if each.at > at and each.model == model and not each.error)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    endpoint = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=endpoint.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{endpoint.server_address[1]}/v1"
    config: dict[str, Any] = {
        "models": {
            LOCAL: {"targets": [{"local": packaged_weights()}]},
            REMOTE: {"targets": [{"url": url, "model": "m"}]},
        },
        "limits": {"default": {"requests_per_minute": 100_000, "tokens_per_minute": 100_000_000}},
    }
    with running(tmp_path_factory.mktemp("chaos") / "data", config) as started:
        yield started
    endpoint.shutdown()
    endpoint.server_close()


@pytest.fixture(scope="module")
def load(platform: Platform) -> Iterator[Load]:
    asking = Load(platform)
    yield asking
    asking.stop()


def all_ready(platform: Platform) -> dict[str, int]:
    """The pid of every module, once all are ready."""

    def look() -> dict[str, int]:
        modules = platform.modules()
        ready = set(modules) == MODULES and all(each["state"] == "ready" for each in modules.values())
        return {name: each["pid"] for name, each in modules.items()} if ready else {}

    return wait_until(look, f"all ready, but {platform.modules()}", seconds=60)


@pytest.mark.parametrize("victim", sorted(MODULES))
def test_a_killed_process_comes_back_and_the_others_stay(platform: Platform, load: Load, victim: str) -> None:
    before = all_ready(platform)
    killed = time.monotonic()
    wait_until(lambda: all(load.good_since(killed - 5, model) for model in NEEDS), "load is under way")

    killed = time.monotonic()
    os.kill(before[victim], signal.SIGKILL)
    wait_until(lambda: platform.modules()[victim]["pid"] != before[victim], f"a new {victim}", seconds=30)
    after = all_ready(platform)
    ready = time.monotonic()
    wait_until(lambda: all(load.good_since(ready, model) for model in NEEDS), f"the gateway knows {victim}")
    back = time.monotonic()
    wait_until(
        lambda: all(load.good_since(back, model) >= 3 for model in NEEDS),
        f"answers after {victim} came back: {load.tries[-4:]}",
    )

    changed = {name for name in MODULES if before[name] != after[name]}
    assert changed == {victim}
    tries = [each for each in list(load.tries) if each.at > killed - 1]
    unnoticed = [model for model, needed in NEEDS.items() if victim not in needed]
    assert [each for each in tries if each.error and each.model in unnoticed] == []
    assert [each for each in tries if each.error and each.at > back] == []


def test_every_completed_answer_is_billed_exactly_once(platform: Platform, load: Load) -> None:
    load.stop()
    completed = {each.request_id: each for each in load.tries if not each.error}
    broken = [each for each in load.tries if each.error]
    assert len(completed) > 10 * len(NEEDS), "the load has hardly run"
    assert len(completed) + len(broken) == len(load.tries)

    deadline = time.monotonic() + BILLED
    while (lost := completed.keys() - (events := billed(platform)).keys()) and time.monotonic() < deadline:
        time.sleep(0.2)

    assert [completed[request_id] for request_id in lost] == [], "not billed"
    totals = platform.request("GET", "/api/billing/usage?limit=0").json()["totals"]
    assert totals["requests"] == len(events)
    assert totals["total_tokens"] == sum(event["total_tokens"] for event in events.values())
    # An answer that was under way when the gateway died may be billed, once; nothing else is.
    assert len(events) - len(completed) <= len(broken)
    for request_id, each in completed.items():
        event = events[request_id]
        assert (event["prompt_tokens"], event["completion_tokens"], event["outcome"]) == (
            each.usage["prompt_tokens"],
            each.usage["completion_tokens"],
            "completed",
        )
    some = next(iter(completed))
    assert platform.request("GET", f"/api/billing/usage/{some}").json() == events[some]
