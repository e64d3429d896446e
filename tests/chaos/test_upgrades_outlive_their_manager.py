"""Upgrades on a real platform while somebody kills: the manager in every phase it comes to, new instances. A
client that asks all the time sees nothing of it."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

import pytest

from harness.platform import Platform, running, wait_until

CONFIG: dict[str, Any] = {
    "models": {"remote": {"targets": [{"url": "http://127.0.0.1:9/v1"}]}},
    "limits": {"default": {"requests_per_minute": 1_000_000}},
}
PLAN = "soak_seconds: 1\nkeep_old_seconds: 2\nobserve_seconds: 2\n"


class Client:
    """Asks one thing after the other on connections of their own."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._over = threading.Event()
        self.good, self.bad = 0, list[str]()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        while not self._over.wait(0.01):
            try:
                answer = self._platform.request("GET", "/api/users/me")
            except (OSError, HTTPException) as error:
                self.bad.append(repr(error))
                continue
            if answer.status == 200:
                self.good += 1
            else:
                self.bad.append(f"{answer.status} {answer.body[:300]!r}")

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("upgrades")
    with running(folder / "data", CONFIG) as started:
        yield started


@pytest.fixture
def client(platform: Platform) -> Iterator[Client]:
    asking = Client(platform)
    yield asking
    asking.stop()


def said(platform: Platform, *words: str) -> dict[str, Any]:
    done = platform.command(*words, "--json")
    assert done.returncode == 0, f"{words}: {done.stderr}\n{platform.logs()}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def begin(platform: Platform, label: str, strategy: str) -> str:
    said(platform, "release", "add", "user", label)
    plan = platform.data.parent / "plan.yaml"
    plan.write_text(PLAN)
    words = ("--to", label, "--strategy", strategy, "--plan", str(plan))
    return str(said(platform, "upgrade", "start", "user", *words)["id"])


def kill(platform: Platform, name: str, release: str | None = None) -> None:
    found = [
        one
        for one in platform.instances()
        if one["name"] == name and release in (None, one["release"]) and one["pid"]
    ]
    for one in found:
        os.kill(one["pid"], signal.SIGKILL)


def look(platform: Platform, id: str) -> dict[str, Any]:
    """The upgrade, as soon as there is a manager to tell."""

    def ask() -> dict[str, Any]:
        answer = platform.request("GET", f"/admin/upgrades/{id}")
        found: dict[str, Any] = answer.json() if answer.status == 200 else {}
        return found

    return wait_until(ask, "an answer of the manager", seconds=30)


def releases_of_user(platform: Platform) -> list[str]:
    return [one["release"] for one in platform.instances() if one["name"] == "user"]


@pytest.mark.parametrize(
    ("label", "strategy"), [("v2", "blue-green"), pytest.param("v3", "rolling", marks=pytest.mark.slow)]
)
def test_a_manager_that_is_killed_in_every_phase_converges(
    platform: Platform, client: Client, label: str, strategy: str
) -> None:
    id = begin(platform, label, strategy)
    killed: set[str] = set()

    def over() -> bool:
        view = look(platform, id)
        if view["phase"] not in killed and not view["outcome"]:
            killed.add(view["phase"])
            kill(platform, "upgrade")
        return bool(view["outcome"])

    wait_until(over, f"the end of {id}", seconds=90)

    assert look(platform, id)["outcome"] == "promoted", platform.logs()
    assert len(killed) >= 3, f"too quick to be killed often: {killed}"
    assert releases_of_user(platform) == [label]
    told = [entry["what"] for entry in said(platform, "upgrade", "history", id)["data"]]
    assert len(told) == len(set(told)), "a transition was made twice"
    client.stop()
    assert client.bad == []
    assert client.good > 100


@pytest.mark.slow  # test_bad_releases_go_back has one that falls at its start
def test_a_new_release_that_dies_all_the_time_is_rolled_back(platform: Platform, client: Client) -> None:
    before = releases_of_user(platform)
    id = begin(platform, "v4", "blue-green")

    def over() -> bool:
        kill(platform, "user", "v4")
        return bool(look(platform, id)["outcome"])

    wait_until(over, f"the end of {id}", seconds=90)

    view = look(platform, id)
    assert view["outcome"] == "rolled_back"
    assert releases_of_user(platform) == before
    client.stop()
    assert client.bad == []


def test_the_gateway_is_replaced_unseen(platform: Platform, client: Client) -> None:
    said(platform, "release", "add", "gateway", "v2")
    plan = platform.data.parent / "gateway.yaml"
    plan.write_text("observe_seconds: 2\n")
    words = ("--to", "v2", "--strategy", "rolling", "--plan", str(plan), "--wait")

    view = said(platform, "upgrade", "start", "gateway", *words)

    assert view["outcome"] == "promoted"
    client.stop()
    assert client.bad == []
    assert client.good > 50
    assert [one["release"] for one in platform.instances() if one["name"] == "gateway"] == ["v2"]
