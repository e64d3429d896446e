"""Canaries on a real platform under load: a good release goes all the way, one with a few percent of errors
goes back by itself, and no client sees a failure of either."""

import json
import math
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from harness import faulty_release
from harness.platform import Platform, running

CONFIG: dict[str, Any] = {
    "models": {"remote": {"targets": [{"url": "http://127.0.0.1:9/v1"}]}},
    "limits": {"default": {"requests_per_minute": 1_000_000}},
}


class Load:
    """Four clients that ask one thing after the other; who answered, by release."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._over = threading.Event()
        self.answered: Counter[str] = Counter()
        self.bad: list[str] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._over.wait(0.02):
            try:
                answer = self._platform.request("GET", "/api/users/me")
            except (OSError, HTTPException) as error:
                self.bad.append(repr(error))
                continue
            self.answered[answer.headers.get("x-moonpool-release", "")] += 1
            if answer.status != 200:
                self.bad.append(f"{answer.status} {answer.body[:300]!r}")

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("evidence") / "data", CONFIG) as started:
        yield started


@pytest.fixture
def load(platform: Platform) -> Iterator[Load]:
    asking = Load(platform)
    yield asking
    asking.stop()


def upgrade(platform: Platform, label: str, plan: str, code: int) -> dict[str, Any]:
    file = platform.data.parent / f"{label}.yaml"
    file.write_text(plan)
    words = ("--to", label, "--strategy", "canary", "--plan", str(file), "--wait", "--json")
    done = platform.command("upgrade", "start", "user", *words, timeout=110)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}\n{platform.logs()}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_good_release_is_promoted_with_its_weight_kept(platform: Platform, load: Load) -> None:
    assert platform.command("release", "add", "user", "v2").returncode == 0

    view = upgrade(
        platform, "v2", "steps: [25]\nsoak_seconds: 6\nminimum_sample: 50\nobserve_seconds: 1\n", 0
    )

    load.stop()
    assert view["outcome"] == "promoted"
    assert load.bad == []
    said = platform.command("upgrade", "history", view["id"], "--json").stdout
    promoted = next(one for one in json.loads(said)["data"] if one["what"] == "promote")
    old, new = (int(promoted["evidence"][label].split(", ")[1].split()[0]) for label in ("v1", "v2"))
    expected, sigma = 0.25 * (old + new), math.sqrt((old + new) * 0.25 * 0.75)
    # Reports of the second in which the weight began are of either rule: they widen what is allowed.
    assert abs(new - expected) < 3 * sigma + 0.25 * (old + new) / 6


def test_a_release_with_errors_goes_back_and_no_client_has_seen_one(platform: Platform, load: Load) -> None:
    program = f"{sys.executable} {Path(faulty_release.__file__)} 0.05"
    assert platform.command("release", "add", "user", "faulty", "--command", program).returncode == 0

    view = upgrade(platform, "faulty", "steps: [50]\nsoak_seconds: 100\nminimum_sample: 50\n", 6)

    load.stop()
    assert "errors" in view["reason"]
    assert view["new"]["numbers"]["errors"] > 0
    assert load.answered["user@faulty"] > 0
    assert load.bad == []
    assert "faulty" not in [one["release"] for one in platform.instances()]
