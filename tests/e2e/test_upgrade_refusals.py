"""What cannot be upgraded is refused with the reason and the way out, and nothing has changed."""

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.platform import Platform, running
from harness.upgrading import releases, told, upgrade

CONFIG = {"models": {"remote": {"targets": [{"url": "http://127.0.0.1:9/v1"}]}}}
QUICK: dict[str, Any] = {"keep_old_seconds": 0, "observe_seconds": 0}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("refused") / "data", CONFIG) as started:
        for service in ("user", "gateway", "storage"):
            told(started, "release", "add", service, "v2")
        yield started


def world(platform: Platform) -> list[tuple[int, bytes]]:
    """All that an upgrade could have changed: what is there, what of it runs, who gets what."""
    places = ("/admin/releases", "/admin/upgrades", "/admin/config/documents/routing/user")
    answers = [platform.request("GET", place) for place in places]
    assert answers[0].status == answers[1].status == 200
    return [(each.status, each.body) for each in answers if each.status == 200]


def refused(platform: Platform, *words: str) -> "subprocess.CompletedProcess[str]":
    before = world(platform)
    done = platform.command(*words)
    assert world(platform) == before
    return done


@pytest.mark.parametrize(
    ("words", "plan", "told"),
    [
        (("user", "--to", "v9"), None, ("there is no release user@v9", "release add")),
        (("nobody", "--to", "v2"), None, ("nobody", "Known are")),
        (("user", "--to", "v1"), None, ("user@v1 is what runs already", "another release")),
        (("user", "--to", "v2", "--strategy", "sideways"), None, ("sideways", "blue-green")),
        (("gateway", "--to", "v2", "--strategy", "canary"), None, ("listening socket", "rolling")),
        (
            ("user", "--to", "v2"),
            "replicas: 2\nsteps: [{weight: 60, replicas: 1}]\n",
            ("60 % is more than 1 of 2 instances can carry", "Give 2 or more"),
        ),
        (("user", "--to", "v2"), "steps: [50, 20]\n", ("20 % is not above the step before", "Steps rise")),
        (("user", "--to", "v2"), "steps: [100]\n", ("a step of everything is promotion", "Leave it out")),
        (("user", "--to", "v2"), "strategy: ab\nsplit: 100\n", ("split",)),
        (("user", "--to", "v2"), "soak_secnods: 5\n", ("soak_secnods",)),
        (("user", "--to", "v2"), "steps: [1, 5\n", ("plan.yaml",)),
        (("user", "--to", "v2", "--plan", "/nowhere.yaml"), None, ("/nowhere.yaml",)),
    ],
)
def test_what_cannot_begin(
    platform: Platform, words: tuple[str, ...], plan: str | None, told: tuple[str, ...]
) -> None:
    file = platform.data.parent / "plan.yaml"
    if plan is not None:
        file.write_text(plan)
        words = (*words, "--plan", str(file))

    done = refused(platform, "upgrade", "start", *words)

    assert done.returncode in (1, 2), done.stdout
    said = " ".join(done.stderr.replace("│", " ").split())
    for part in told:
        assert part in said


@pytest.mark.parametrize("word", ["pause", "resume", "promote", "abort", "rollback"])
def test_no_word_to_an_upgrade_that_never_was(platform: Platform, word: str) -> None:
    done = refused(platform, "upgrade", word, "billing")

    assert done.returncode == 1
    assert "billing" in done.stderr
    assert "moonpool upgrade " in done.stderr


def test_a_second_upgrade_of_the_same_service(platform: Platform) -> None:
    upgrade(platform, "storage", "v2", "canary", wait=False, steps=[5], soak_seconds=600)

    done = platform.command("upgrade", "start", "storage", "--to", "v2")

    assert done.returncode == 1
    assert "storage is being upgraded already" in done.stderr
    assert "moonpool upgrade abort storage" in done.stderr
    upgrades = platform.request("GET", "/admin/upgrades?service=storage").json()["data"]
    assert len(upgrades) == 1
    told(platform, "upgrade", "abort", "storage", "--wait", "--reason", "enough")
    assert told(platform, "upgrade", "status", "storage")["outcome"] == "rolled_back"
    assert releases(platform, "storage") == ["v1"]


def test_a_rollback_whose_release_is_gone(platform: Platform) -> None:
    told(platform, "release", "add", "user", "v3")
    for label in ("v2", "v3"):
        upgrade(platform, "user", label, "blue-green", **QUICK)
    removed = platform.command("release", "remove", "user", "v2")
    assert removed.returncode == 0, removed.stderr

    done = refused(platform, "upgrade", "rollback", "user")

    assert done.returncode == 1
    assert "user@v2 is gone" in done.stderr
    assert "moonpool release add user" in done.stderr


def test_a_release_that_the_database_is_too_new_for(platform: Platform) -> None:
    """It is marked as one that a later release has changed; who runs already does not look again."""
    with stamped(platform.data / "db" / "storage.db", "0999"):
        seen = upgrade(platform, "storage", "v2", "blue-green", code=6)

    assert "the database is newer than this code: it is at revision 0999" in seen["reason"]
    assert "Start the release that wrote it" in seen["reason"]
    assert seen["outcome"] == "rolled_back"
    assert releases(platform, "storage") == ["v1"]
    assert platform.request("GET", "/v1/files").status == 200


@contextmanager
def stamped(database: Path, revision: str) -> Iterator[None]:
    def change(to: str) -> str:
        with closing(sqlite3.connect(database, timeout=5.0)) as connection, connection:
            before = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
            connection.execute("UPDATE alembic_version SET version_num = ?", (to,))
        return str(before)

    before = change(revision)
    try:
        yield
    finally:
        change(before)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("user", "v3", "--set", "drain_timeout=5"), "releases do not change"),
        (("nobody", "v2"), "nobody"),
        (("user", "V 2"), "is no label"),
        (("user", "v7", "--from", "/nowhere.whl"), "there is no file"),
        (("user", "v7", "--url", "http://127.0.0.1:9/v1"), "Only inference"),
        (("user", "v7", "--env", "API_KEY=x"), "no place for secrets"),
        (("user", "v7", "--set", "models.a.targets=[{url: http://127.0.0.1:9/v1}]"), "user serves no models"),
    ],
)
def test_releases_that_cannot_be_added(platform: Platform, words: tuple[str, ...], told: str) -> None:
    done = refused(platform, "release", "add", *words)

    assert done.returncode in (1, 2)
    assert told in " ".join(done.stderr.replace("│", " ").split())


def test_a_dry_run_changes_nothing(platform: Platform) -> None:
    told(platform, "release", "add", "user", "v4")
    done = refused(platform, "upgrade", "start", "user", "--to", "v4", "--dry-run", "--json")

    assert done.returncode == 0
    assert len(json.loads(done.stdout)["steps"]) > 4
