"""`moonpool release`: what it writes into the config server's documents, and what it says when it cannot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from moonpool.cli import release_documents
from moonpool.cli.api import FAILED, REFUSED, Api, CommandFailed, Place
from moonpool.cli.main import app
from moonpool.cli.release_documents import ReleaseDocuments
from moonpool.contracts.releases import CommandSource, Overrides, Release, ServiceReleases, sealed
from moonpool.contracts.routing import Routing, Share
from moonpool.core.errors import Conflict, NotFound, Unprocessable
from moonpool.ports.discovery import Instance
from moonpool.upgrade.release import Retention
from moonpool.upgrade.release_documents import entry
from moonpool.wiring.layout import Layout
from moonpool.wiring.lock import PlatformLock
from moonpool.wiring.topology import TopologyFile

EVERYTHING = Retention(keep=0, age=0.0)


def release(label: str = "v2", **more: Any) -> Release:
    return sealed(Release(service="chat", label=label, created=5.0, **more))


class Server:
    """A config server's documents; what is written reaches the shelf as the supervisor would put it there."""

    def __init__(self, documents: ReleaseDocuments) -> None:
        self.shelf = documents.shelf
        self.versions: dict[str, tuple[int, dict[str, Any]]] = {}
        self.reasons: list[str] = []
        self.error: CommandFailed | None = None
        self.between: Callable[[], object] = lambda: None
        self.followed = True

    def call(self, _api: Any, method: str, path: str, shape: Any, body: bytes | None, query: Any) -> Any:
        if self.error is not None:
            raise self.error
        name = path.removeprefix("/admin/config/documents/")
        version, content = self.versions.get(name, (0, {}))
        if method == "GET":
            if not version:
                raise CommandFailed("no document yet", exit_code=REFUSED, code="unknown_version")
            view = {"name": name, "version": version, "author": "a", "reason": "", "at": 0.0}
            return msgspec.convert({**view, "content": content}, shape)
        wish = json.loads(body or b"")
        between, self.between = self.between, lambda: None
        between()
        version, _ = self.versions.get(name, (0, {}))
        if wish["version"] != version:
            raise CommandFailed("too late", exit_code=REFUSED, code="version_conflict")
        self.put(name, wish["content"])
        self.reasons.append(wish["reason"])
        return msgspec.convert({"name": name, "version": version + 1, "changed": True, "changes": []}, shape)

    def put(self, name: str, content: dict[str, Any]) -> None:
        self.versions[name] = (self.versions.get(name, (0, {}))[0] + 1, content)
        if self.followed and name.startswith("releases/"):
            document = msgspec.convert(content, ServiceReleases)
            self.shelf.follow(document.service, document.releases.values(), 9.0)

    def labels(self, service: str = "chat") -> list[str]:
        return sorted(self.versions[f"releases/{service}"][1]["releases"])


@pytest.fixture
def documents(tmp_path: Path) -> ReleaseDocuments:
    return ReleaseDocuments(tmp_path)


@pytest.fixture
def server(documents: ReleaseDocuments, monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server(documents)
    monkeypatch.setattr(Api, "_call", lambda *given: found.call(*given))
    monkeypatch.setattr(release_documents, "documents_api", lambda *_: Api(Place("unix:/x", "", b"x")))
    monkeypatch.setattr(release_documents, "PATIENCE", 0.0)
    return found


def running(documents: ReleaseDocuments, tmp_path: Path, *labels: str) -> None:
    there = (
        Instance(name="chat", release=label, instance="i", pid=1, state="ready", endpoint="")
        for label in labels
    )
    TopologyFile(Layout(tmp_path).topology).publish(tuple(there))


def test_added_and_removed(documents: ReleaseDocuments, server: Server) -> None:
    assert documents.add(release(note="why")) == release(note="why")
    documents.add(release("v3"))
    assert server.labels() == ["v2", "v3"]
    assert documents.shelf.labels("chat") == ("v2", "v3")
    documents.remove("chat", "v2")
    assert server.labels() == ["v3"]
    assert server.reasons == ["v2 added: why", "v3 added", "v2 removed"]
    with pytest.raises(NotFound, match="no release chat@v2"):
        documents.remove("chat", "v2")


def test_what_is_so_already_is_not_written_again(documents: ReleaseDocuments, server: Server) -> None:
    first = documents.add(release())
    again = documents.add(msgspec.structs.replace(release(), created=6.0, by="somebody else"))
    assert again == first
    assert len(server.reasons) == 1


def test_what_others_write_meanwhile_stays(documents: ReleaseDocuments, server: Server) -> None:
    others = {"service": "chat", "releases": {"v9": {"service": "chat", "label": "v9"}}}
    server.between = lambda: server.put("releases/chat", others)
    documents.add(release())
    assert server.labels() == ["v2", "v9"]
    assert server.versions["releases/chat"][1]["releases"]["v9"] == others["releases"]["v9"]  # type: ignore[index]


def test_without_a_document_it_begins_with_what_the_supervisor_has(
    documents: ReleaseDocuments, server: Server
) -> None:
    documents.shelf.follow("chat", [release("old")], 1.0)
    documents.add(release())
    assert server.labels() == ["old", "v2"]


def test_a_label_keeps_its_meaning(documents: ReleaseDocuments, server: Server) -> None:
    documents.add(release())
    other = release(source=CommandSource(argv=("x",)))
    with pytest.raises(Conflict, match="releases do not change"):
        documents.add(other)
    known = documents.known("chat")
    documents.check(known, release(), built=True)
    for wish, built in ((other, True), (release(), False)):
        with pytest.raises(Conflict, match="releases do not change"):
            documents.check(known, wish, built=built)
    with pytest.raises(Conflict, match="what runs when no release was added"):
        documents.check(known, release("v1"), built=True)
    with pytest.raises(Unprocessable, match="looks like a secret"):
        documents.check(known, release("v3", overrides=Overrides(environment={"KEY": "x"})), built=True)


def test_what_was_removed_and_still_runs_keeps_its_label(
    documents: ReleaseDocuments, server: Server, tmp_path: Path
) -> None:
    documents.add(release())
    running(documents, tmp_path, "v2")
    server.put("releases/chat", {"service": "chat", "releases": {}})
    with pytest.raises(Conflict, match="releases do not change"):
        documents.add(release(source=CommandSource(argv=("x",))))
    documents.add(release())
    assert server.labels() == ["v2"]


def test_what_runs_is_neither_removed_nor_collected(
    documents: ReleaseDocuments, server: Server, tmp_path: Path
) -> None:
    documents.add(release())
    running(documents, tmp_path, "v2")
    with pytest.raises(Conflict, match="chat@v2"):
        documents.remove("chat", "v2")
    assert documents.collect(EVERYTHING) == ()
    running(documents, tmp_path)
    assert documents.collect(EVERYTHING) == (release(),)
    assert server.labels() == []


def test_what_the_routing_names_is_not_collected(documents: ReleaseDocuments, server: Server) -> None:
    for label in ("v2", "v3", "v4"):
        documents.add(release(label))
    shares = (Share(release="v2"), Share(release="v3", weight=10))
    routing = Routing(service="chat", default="v2", shares=shares)
    server.put("routing/chat", msgspec.to_builtins(routing))
    assert [one.label for one in documents.collect(EVERYTHING)] == ["v4"]
    assert server.labels() == ["v2", "v3"]
    assert server.reasons[-1] == "collected, as not used any more: v4"
    server.put("routing/chat", {"of": "a newer package"})
    assert documents.collect(EVERYTHING) == ()


def test_a_supervisor_that_is_slow_is_told_of(
    documents: ReleaseDocuments, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.followed = False
    documents.add(release())
    assert "has not heard of it yet" in capsys.readouterr().err
    assert server.labels() == ["v2"]


def test_a_config_server_that_is_away_changes_nothing_and_says_what_is_possible(
    documents: ReleaseDocuments, server: Server
) -> None:
    documents.add(release())
    server.error = CommandFailed("the database is away", exit_code=FAILED)
    for change in (
        lambda: documents.add(release("v3")),
        lambda: documents.remove("chat", "v2"),
        lambda: documents.collect(EVERYTHING),
        lambda: documents.known("chat"),
    ):
        with pytest.raises(CommandFailed, match="the database is away") as away:
            change()
        assert away.value.exit_code == FAILED
        assert "Nothing was changed" in (away.value.hint or "")
        assert "`release list` and `show` work without it" in (away.value.hint or "")
    assert server.labels() == ["v2"]


def test_a_change_without_an_answer_may_have_been_made(documents: ReleaseDocuments, server: Server) -> None:
    lost = CommandFailed("it closed the connection", exit_code=FAILED, code="upstream_reset")

    def made_and_killed() -> None:
        written = {"service": "chat", "releases": {"v2": entry(release())}}
        server.put("releases/chat", written)
        raise lost

    server.between = made_and_killed
    with pytest.raises(CommandFailed, match="closed the connection") as unknown:
        documents.add(release())
    assert "Ask for it again" in (unknown.value.hint or "")
    assert documents.add(release()) == release()
    assert server.versions["releases/chat"][0] == 1
    server.error = lost
    with pytest.raises(CommandFailed) as unsent:
        documents.add(release("v3"))
    assert "Nothing was changed" in (unsent.value.hint or "")


def test_a_document_of_a_newer_package_is_left_alone(documents: ReleaseDocuments, server: Server) -> None:
    server.followed = False
    newer = {"service": "chat", "releases": {}, "colours": ["red"]}
    server.put("releases/chat", newer)
    with pytest.raises(CommandFailed, match="colours") as unknown:
        documents.add(release())
    assert unknown.value.exit_code == REFUSED
    assert server.versions["releases/chat"] == (1, newer)


def test_a_refusal_is_told_as_it_is(documents: ReleaseDocuments, server: Server) -> None:
    server.error = CommandFailed("releases.v2: it cannot go", exit_code=REFUSED, code="invalid_document")
    with pytest.raises(CommandFailed, match="cannot go") as refused:
        documents.remove("chat", "v2")
    assert refused.value.hint is None


def run(data: Path, *words: str) -> Any:
    return CliRunner().invoke(app, ["release", *words, "--data", str(data)])


def test_without_a_platform_it_is_read_and_not_changed(documents: ReleaseDocuments, tmp_path: Path) -> None:
    documents.shelf.follow("chat", [release()], 1.0)
    shown = run(tmp_path, "list", "chat", "--json")
    assert [one["label"] for one in json.loads(shown.stdout)["data"]] == ["v1", "v2"]
    assert "No platform runs" in shown.stderr
    assert json.loads(run(tmp_path, "show", "chat", "v2", "--json").stdout)["digest"] == release().digest
    for words in (("add", "chat"), ("remove", "chat", "v2"), ("gc", "--keep", "0", "--days", "0")):
        failed = run(tmp_path, *words).exception
        assert isinstance(failed, CommandFailed)
        assert failed.exit_code == 3
        assert "no config server runs" in failed.message
        assert "Nothing was changed" in (failed.hint or "")
    assert documents.shelf.labels("chat") == ("v2",)


def test_with_the_config_server_away_the_list_says_so(documents: ReleaseDocuments, tmp_path: Path) -> None:
    documents.shelf.follow("chat", [release()], 1.0)
    lock = PlatformLock(Layout(tmp_path))
    lock.acquire()
    try:
        shown = run(tmp_path, "list", "chat")
        assert "The config server is away" in shown.stderr
        assert "v2" in shown.stdout
        config = Instance(name="config", release="v1", instance="c", pid=1, state="ready", endpoint="")
        TopologyFile(Layout(tmp_path).topology).publish((config,))
        assert run(tmp_path, "list", "chat").stderr == ""
    finally:
        lock.release()


def test_as_json(documents: ReleaseDocuments, server: Server, tmp_path: Path) -> None:
    added = run(tmp_path, "add", "chat", "--note", "x", "--json")
    assert json.loads(added.stdout)["label"] == "v2"
    removed = run(tmp_path, "remove", "chat", "v2", "--json")
    assert json.loads(removed.stdout) == {"service": "chat", "label": "v2", "removed": True}
    run(tmp_path, "add", "chat")
    collected = run(tmp_path, "gc", "--keep", "0", "--days", "0", "--json")
    assert json.loads(collected.stdout)["data"] == ["chat@v2"]
