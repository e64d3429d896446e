"""Requests that nobody could answer, and answers that are asked for later: over HTTP and by command line."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.books import billed
from harness.injector import Injector, injecting
from harness.platform import Answer, Platform, running, wait_until

SECRET = "the password of the lighthouse is albatross"
PARTLY = 6


@pytest.fixture(scope="module")
def injector() -> Iterator[Injector]:
    with injecting() as injector:
        yield injector


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory, injector: Injector) -> Iterator[Platform]:
    config: dict[str, Any] = {
        "models": {"far": {"targets": [{"url": injector.url}]}},
        "resilience": {
            "breaker": {"open_first": 0.2, "open_longest": 0.5, "probes": [1]},
            "retry": {"attempts": 1},
        },
    }
    with running(tmp_path_factory.mktemp("letters") / "data", config) as platform:
        yield platform


@pytest.fixture(autouse=True)
def broken(injector: Injector, letters: Platform) -> None:
    """Every test begins with an endpoint that fails, and without letters."""
    letters.command("dlq", "purge", "--all")
    injector.fault("far", "status", status=500)


def ask(platform: Platform, **headers: str) -> Answer:
    return platform.chat(SECRET, model="far", headers=headers)


def listed(platform: Platform, *words: str) -> list[dict[str, Any]]:
    said = platform.command("dlq", "list", "--json", *words)
    assert said.returncode == 0, said.stderr
    data: list[dict[str, Any]] = json.loads(said.stdout)["data"]
    return data


def test_an_answer_asked_for_later_arrives_when_the_model_is_back(
    letters: Platform, injector: Injector
) -> None:
    asked = ask(letters, Prefer="respond-async")
    place = asked.headers["location"]

    assert (asked.status, asked.headers["preference-applied"]) == (202, "respond-async")
    assert place == f"/v1/deferred/{asked.json()['id']}"
    wait_until(lambda: listed(letters, "--state", "waiting")[0]["attempts"], "it was tried in vain")
    waiting = letters.request("GET", place)
    assert (waiting.status, waiting.json()["status"]) == (202, "waiting")

    injector.mend("far")
    answer = wait_until(
        lambda: (found := letters.request("GET", place)).status == 200 and found, "the answer is there", 40
    )

    assert answer.json()["object"] == "chat.completion"
    assert answer.json()["choices"][0]["message"]["content"]
    request_id = asked.headers["x-request-id"]
    wait_until(
        lambda: letters.request("GET", f"/api/billing/usage/{request_id}").status == 200, "it is billed"
    )
    assert [each["state"] for each in listed(letters)] == ["answered"]


def test_what_could_not_be_answered_is_kept_and_sent_again(letters: Platform, injector: Injector) -> None:
    refused = ask(letters)
    letter = refused.headers["x-moonpool-dead-letter"]

    assert refused.status == 503
    (row,) = listed(letters, "--state", "dead")
    assert (row["id"], row["service"], row["route"]) == (letter, "inference", "/v1/chat/completions")
    assert letter in letters.command("dlq", "list").stdout
    plain = letters.command("dlq", "show", letter).stdout
    whole = letters.command("dlq", "show", letter, "--content").stdout
    assert row["cause"] in plain
    assert SECRET not in plain
    assert SECRET in whole
    assert letters.key not in whole

    again = letters.command("dlq", "replay", letter)
    assert (again.returncode, "1 failed again" in again.stderr + again.stdout) == (PARTLY, True)
    injector.mend("far")
    wait_until(lambda: letters.command("dlq", "replay", letter).returncode == 0, "it is answered")

    deferred = letters.request("GET", f"/v1/deferred/{letter}")
    assert (deferred.status, deferred.json()["object"]) == (200, "chat.completion")
    count = injector.count("far")
    assert "already answered" in letters.command("dlq", "replay", letter).stdout
    assert injector.count("far") == count, "what was answered is not sent again"


def test_many_are_sent_again_and_the_rest_is_left_alone_while_they_fail(
    letters: Platform, injector: Injector
) -> None:
    kept = [ask(letters).headers["x-moonpool-dead-letter"] for _ in range(5)]
    stopped = letters.command("dlq", "replay", "--all", "--rate", "100")

    assert stopped.returncode == PARTLY
    assert "the rest was left alone" in stopped.stdout + stopped.stderr
    assert sum(each["updated_at"] == each["created_at"] for each in listed(letters)) == 2

    injector.mend("far")
    wait_until(lambda: ask(letters).status == 200, "the endpoint is trusted again")
    done = letters.command("dlq", "replay", "--service", "inference", "--rate", "100", "--json")
    assert done.returncode == 0, done.stderr
    answered = json.loads(done.stdout)["answered"]  # what was asked meanwhile may be among them
    assert answered >= 5
    assert {each["id"] for each in listed(letters, "--state", "answered")} >= set(kept)
    purged = letters.command("dlq", "purge", "--state", "answered", "--json")
    assert json.loads(purged.stdout)["deleted"] >= answered
    assert listed(letters) == []


@pytest.mark.slow
def test_what_waits_for_a_route_that_is_off_loses_no_attempt(letters: Platform, injector: Injector) -> None:
    kept = ask(letters).headers["x-moonpool-dead-letter"]
    asked = ask(letters, Prefer="respond-async")
    wait_until(lambda: listed(letters, "--state", "waiting")[0]["attempts"], "it was tried in vain")

    off = ("config", "set", 'routes."POST /v1/chat/completions".enabled')
    assert letters.command(*off, "false").returncode == 0
    wait_until(lambda: b"route_disabled" in ask(letters).body, "the route is off")
    before = {row["id"]: row["attempts"] for row in listed(letters)}
    told = letters.command("dlq", "replay", kept)
    assert (told.returncode, "is switched off" in told.stdout + told.stderr) == (PARTLY, True)
    time.sleep(12.0)  # longer than the pause after its second attempt
    assert {row["id"]: row["attempts"] for row in listed(letters)} == before

    injector.mend("far")
    assert letters.command(*off, "true").returncode == 0
    place = asked.headers["location"]
    wait_until(lambda: letters.request("GET", place).status == 200, "it is answered", 30)


def test_letters_are_encrypted_at_rest(letters: Platform) -> None:
    ask(letters)
    found = [file for file in letters.data.rglob("*") if file.is_file() and holds(file)]

    assert found == []


def holds(file: Path) -> bool:
    content = file.read_bytes()
    return SECRET.encode() in content or b"albatross" in content


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("show", "dl_unknown"), 1, "no dead letter"),
        (("replay", "dl_unknown"), 1, "no dead letter"),
        (("purge", "dl_unknown"), 1, "no dead letter"),
        (("replay",), 2, "nothing was chosen"),
        (("purge",), 2, "nothing was chosen"),
        (("list", "--state", "alive"), 1, "alive"),
    ],
)
def test_what_cannot_be_is_said(letters: Platform, words: tuple[str, ...], code: int, told: str) -> None:
    said = letters.command("dlq", *words)

    assert said.returncode == code, said.stderr
    assert told in said.stderr


def test_nobody_else_sees_them(letters: Platform) -> None:
    letter = ask(letters).headers["x-moonpool-dead-letter"]
    created = letters.command("keys", "create", "--name", "member", "--role", "member", "--json")
    member = json.loads(created.stdout)["key"]

    assert letters.request("GET", "/admin/dlq", key=member).status == 403
    assert letters.request("GET", f"/admin/dlq/{letter}", key=member).status == 403
    assert letters.request("GET", f"/v1/deferred/{letter}", key="sk-mp-nobody").status == 401
    assert letters.request("GET", "/v1/deferred/dl_unknown", key=member).status == 404


# ── a request that its service had done, and could not answer any more ─────────────────────────────────────


def stored(platform: Platform, conversation: str) -> list[dict[str, Any]]:
    answer = platform.request("GET", f"{conversation}/messages")
    return answer.json()["data"] if answer.status == 200 else []  # type: ignore[no-any-return]


def killed_over_a_question(platform: Platform, injector: Injector, conversation: str) -> None:
    """Chat has committed the question, waits for the model, and is killed before it has said anything."""
    wait_until(lambda: len(stored(platform, conversation)) == 2, "the question is stored")
    before = platform.modules()["chat"]["pid"]
    injector.mend("far")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: platform.modules()["chat"]["pid"] != before, "a new chat process")


@pytest.mark.parametrize("later", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_message_whose_answer_was_lost_is_there_once(
    letters: Platform, injector: Injector, later: bool
) -> None:
    injector.fault("far", "stall")
    made = letters.request("POST", "/api/conversations", {"model": "far"})
    conversation = f"/api/conversations/{made.json()['id']}"
    path, body = f"{conversation}/messages", {"content": "Hello?", "stream": False}
    wish = {"Prefer": "respond-async"} if later else None
    with ThreadPoolExecutor(1) as client:
        asking = client.submit(letters.request, "POST", path, body, headers=wish)
        killed_over_a_question(letters, injector, conversation)
        answer = asking.result()
    if later:
        assert answer.status == 202, answer.body
        place = answer.headers["location"]
        answer = wait_until(
            lambda: (found := letters.request("GET", place)).status != 202 and found, "it is answered"
        )
    else:
        assert answer.headers["x-moonpool-fallback"] == "service"
    assert answer.status == 201, answer.body

    wait_until(lambda: not listed(letters, "--state", "waiting"), "all that was put off is done")
    question, reply = stored(letters, conversation)
    assert (question["role"], question["content"]) == ("user", "Hello?")
    assert reply["parent"] == question["id"]
    assert (reply["id"], reply["status"]) == (answer.json()["id"], "completed")
    assert reply["content"] == answer.json()["content"] != ""


@pytest.mark.slow
def test_each_run_of_an_answer_is_billed(letters: Platform, injector: Injector) -> None:
    """Chat is killed in the middle of an answer, which is then run once more in its place."""
    injector.fault("far", "stall", after=40)
    made = letters.request("POST", "/api/conversations", {"model": "far"})
    conversation = f"/api/conversations/{made.json()['id']}"
    body = {"content": "In 50 words, please.", "stream": False}
    asked = letters.request("POST", f"{conversation}/messages", body, headers={"Prefer": "respond-async"})

    def begun() -> bool:
        return any(message["content"] for message in stored(letters, conversation)[1:])

    wait_until(begun, "something of the answer is stored")
    before = letters.modules()["chat"]["pid"]
    injector.mend("far")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: letters.request("GET", asked.headers["location"]).status == 201, "it is answered", 60)

    _, reply = stored(letters, conversation)
    assert reply["status"] == "completed"

    def bills() -> dict[str, dict[str, Any]]:
        found = {id: bill for id, bill in billed(letters).items() if id.startswith(reply["id"])}
        return found if len(found) == 2 else {}

    found = wait_until(bills, "both runs are billed")
    broken = found.pop(reply["id"])
    (whole,) = found.values()
    assert (broken["outcome"], whole["outcome"]) == ("interrupted", "completed")
    assert 0 < broken["completion_tokens"] < whole["completion_tokens"] == 50
