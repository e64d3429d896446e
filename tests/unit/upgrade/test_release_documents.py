"""What a document of releases may say, and how it may change."""

from collections.abc import Mapping

import msgspec
import pytest

from moonpool.contracts.documents.place import Document
from moonpool.contracts.documents.validation import DocumentFault, validate
from moonpool.contracts.releases import (
    CommandSource,
    EndpointSource,
    EnvironmentSource,
    ListedRelease,
    Overrides,
    Release,
    ReleaseList,
    ServiceReleases,
    sealed,
)
from moonpool.contracts.routing import Cohort, CookieRule, Mirror, Pins, Routing, Share
from moonpool.ports.config import Problem
from moonpool.upgrade.release_documents import entry, first_document, listed, releases_kind, roles

KIND = releases_kind()


def release(label: str = "v2", service: str = "chat", **more: object) -> Release:
    return sealed(Release(service=service, label=label, **more))  # type: ignore[arg-type]


def document(*releases: Release, service: str = "chat") -> ServiceReleases:
    return ServiceReleases(service=service, releases={each.label: each for each in releases})


def changed(
    new: ServiceReleases, old: ServiceReleases | None = None, routing: Routing | None = None
) -> list[Problem]:
    def others(name: str) -> Mapping[str, object] | None:
        assert name == f"routing/{new.service}"
        return None if routing is None else msgspec.to_builtins(routing)

    return list(KIND.change(f"releases/{new.service}", new, old, others))


def refused(name: str, content: object) -> DocumentFault:
    with pytest.raises(DocumentFault) as fault:
        validate(Document(name, content), KIND, name)
    return fault.value


@pytest.mark.parametrize(
    ("name", "content", "place", "words"),
    [
        ("releases/nobody", {"service": "nobody"}, "service", "Known are auth"),
        ("releases/chat", {"service": "auth"}, "service", "another service"),
        ("releases/chat", {"service": "chat", "releases": {"V 2": {}}}, 'releases."V 2"', ""),
        ("releases/chat", {"service": "chat", "lists": {}}, "lists", "releases"),
        ("releases/chat", {"service": "chat", "releases": {"v1": entry(release("v1"))}}, "releases.v1", "v1"),
        ("releases/chat", {"service": "chat", "releases": {"v3": entry(release())}}, "releases.v3", "v2"),
        (
            "releases/chat",
            {"service": "chat", "releases": {"v2": entry(release(service="auth"))}},
            "releases.v2",
            "auth@v2",
        ),
    ],
)
def test_what_is_no_document_of_releases(name: str, content: object, place: str, words: str) -> None:
    fault = refused(name, content)
    assert place in f"{fault.param} {fault.message}"
    assert words in f"{fault.message} {fault.hint}"


def test_what_may_be_added_is_what_a_release_may_be() -> None:
    assert changed(document(release())) == []
    assert changed(document(release(), release("v3")), document(release())) == []
    wrong = release(source=EndpointSource(url="http://a.example/v1"))
    (problem,) = changed(document(wrong))
    assert problem.path == ("releases", "v2", "source")
    secret = release(overrides=Overrides(environment={"API_TOKEN": "x"}))
    (problem,) = changed(document(secret))
    assert problem.path == ("releases", "v2", "overrides", "environment", "API_TOKEN")
    (problem,) = changed(document(msgspec.structs.replace(release(), digest="0")))
    assert "digest" in problem.message


def test_what_was_accepted_once_is_not_judged_again() -> None:
    """Rules become stricter, and what a digest covers grows: what is there stays."""
    old = msgspec.structs.replace(release(overrides=Overrides(environment={"KEY": "x"})), digest="0")
    assert changed(document(old, release("v3")), document(old)) == []


@pytest.mark.parametrize(
    "other", [release(note="else"), release(source=CommandSource(argv=("x",))), release(created=5.0)]
)
def test_a_release_does_not_change(other: Release) -> None:
    (problem,) = changed(document(other), document(release()))
    assert problem.path == ("releases", "v2")
    assert "releases do not change" in problem.message
    assert "new label" in problem.hint


def test_what_the_routing_needs_does_not_go() -> None:
    routing = Routing(
        service="chat",
        default="v1",
        shares=(Share(release="v1"), Share(release="v2", weight=500), Share(release="v3")),
    )
    (problem,) = changed(document(), document(release(), release("v3")), routing)
    assert problem.path == ("releases", "v2")
    assert "chat@v2 cannot go: the routing gives it a share of the traffic" in problem.message
    assert "upgrade of chat" in problem.hint
    assert changed(document(release()), document(release(), release("v3")), routing) == []
    assert changed(document(), document(release()), None) == []


def test_whoever_can_be_sent_requests_has_a_role() -> None:
    routing = Routing(
        service="chat",
        default="a",
        shares=tuple(Share(release=label) for label in "abcdef"),
        mirror=Mirror(release="m"),
        cookie=CookieRule(releases=("b",)),
        cohorts=(Cohort(name="staff", release="c", users=("ann",)),),
        pins=Pins(conversations={"conv_1": "d"}),
        killed=("e",),
    )
    assert sorted(roles(routing)) == ["a", "b", "c", "d", "m"]
    assert roles(routing)["c"] == "the cohort staff"


def test_routing_that_cannot_be_read_holds_nothing_up() -> None:
    others = {"routing/chat": {"of": "another version"}}
    assert list(KIND.change("releases/chat", document(), document(release()), others.get)) == []


def test_what_a_release_runs_from_must_be_there() -> None:
    kind = releases_kind(lambda each: "its disk is lost" if each.label == "v3" else "")
    old, gone = release("v2"), release("v3", source=EnvironmentSource(path="/nowhere"))
    (problem,) = kind.change("releases/chat", document(old, gone), document(old), lambda name: None)
    assert problem.path == ("releases", "v3")
    assert "chat@v3 cannot come back: its disk is lost" in problem.message
    assert list(kind.change("releases/chat", document(gone), document(gone), lambda name: None)) == []


def test_the_machines_own_and_the_supervisors() -> None:
    assert KIND.local
    assert KIND.writers == ("supervisor",)
    assert KIND.covers("releases/chat")


def test_the_first_document_of_what_was_there_before() -> None:
    secret = release("v3", overrides=Overrides(environment={"API_TOKEN": "x"}))
    other = release("v2", service="auth")
    known = ReleaseList(tuple(ListedRelease(release=one) for one in (release(), secret, other)))
    assert first_document("chat", known, {"v2", "v3"}) == document(release())
    assert first_document("chat", known, {"v2"}) == document(release(), secret)
    old = msgspec.structs.replace(release(), digest="of an older package")
    known = ReleaseList((ListedRelease(release=old),))
    assert first_document("chat", known, {"v2"}) == document(release())


def test_listed_oldest_first() -> None:
    found = listed(document(release("v9", created=1.0), release("v2", created=2.0)))
    assert [(one.release.label, one.since) for one in found.releases] == [("v9", 1.0), ("v2", 2.0)]
