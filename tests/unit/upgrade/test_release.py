"""The list of releases: immutable, checked, collected."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from moonpool.contracts.config import EngineConfig, LimitConfig, ModelConfig, TargetConfig
from moonpool.contracts.manifest import Manifest
from moonpool.contracts.money import PriceConfig
from moonpool.contracts.releases import (
    MODULES,
    CommandSource,
    EndpointSource,
    EnvironmentSource,
    ImageSource,
    Overrides,
    Release,
    ReleaseList,
    ReleaseState,
    digest_of,
    sealed,
)
from moonpool.core.errors import Conflict, NotFound, Unprocessable
from moonpool.upgrade.release import NEXT, Retention, add, change, collectable, faults_of, find, remove

S = ReleaseState
V2 = Release(service="chat", label="v2", created=5.0, by="root")


def listed(*releases: Release) -> ReleaseList:
    found = ReleaseList()
    for place, release in enumerate(releases):
        found = add(found, release, float(place))
    return found


@pytest.mark.parametrize("service", MODULES)
def test_every_module_can_have_releases(service: str) -> None:
    assert faults_of(Release(service=service, label="2026.11.23-rc.1")) == ()


SOURCES: list[Any] = [
    EnvironmentSource(path="/srv/v2", package="dist/x.whl", sha256="ab"),
    CommandSource(argv=("./serve", "--fast")),
    ImageSource(image="chat@sha256:ab"),
]


@pytest.mark.parametrize("source", SOURCES)
def test_a_release_is_what_it_was_when_it_is_read_again(source: Any) -> None:
    release = sealed(Release(service="chat", label="v2", source=source))
    again = msgspec.json.decode(msgspec.json.encode(release), type=Release)

    assert again == release
    assert digest_of(again) == release.digest
    assert faults_of(again) == ()


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"service": "chatt"}, "service"),
        ({"label": "V2"}, "label"),
        ({"label": "-v2"}, "label"),
        ({"label": "v2."}, "label"),
        ({"label": "a" * 64}, "label"),
        ({"label": ""}, "label"),
        ({"label": "external"}, "label"),
        ({"digest": "00"}, "digest"),
        ({"source": EndpointSource(url="https://example.org/v1")}, "source"),
        (
            {"service": "inference", "source": EndpointSource(url="http://x/v1", api_key_env="sk-123")},
            "source.api_key_env",
        ),
        (
            {
                "service": "inference",
                "source": EndpointSource(url="http://x/v1", price=PriceConfig(prompt=-1)),
            },
            "source.price",
        ),
        (
            {
                "service": "inference",
                "source": EndpointSource(url="http://x/v1"),
                "overrides": Overrides(instances=2),
            },
            "overrides",
        ),
        ({"service": "gateway", "source": ImageSource(image="x")}, "source"),
        ({"manifest": Manifest(service="chat", summary="")}, "manifest"),
        (
            {"source": CommandSource(argv=("x",)), "manifest": Manifest(service="user", summary="")},
            "manifest.service",
        ),
        (
            {"overrides": Overrides(environment={"OPENAI_API_KEY": "x"})},
            "overrides.environment.OPENAI_API_KEY",
        ),
        ({"overrides": Overrides(engine=EngineConfig())}, "overrides.engine"),
        (
            {"overrides": Overrides(models={"m": ModelConfig(targets=(TargetConfig(local="x.gguf"),))})},
            "overrides.models",
        ),
        ({"overrides": Overrides(limits={"default": LimitConfig()})}, "overrides.limits"),
    ],
)
def test_what_cannot_be_a_release_is_told_with_its_place(changes: dict[str, Any], place: str) -> None:
    release = replace(V2, **changes)
    faults = faults_of(release)

    assert [fault.place for fault in faults] == [place]
    with pytest.raises(Unprocessable) as caught:
        add(ReleaseList(), release, 0.0)
    assert caught.value.param == place


def test_what_a_label_means_does_not_change() -> None:
    releases = listed(V2)

    assert add(releases, replace(V2, by="somebody else", created=9.0, note="again"), 1.0) is releases
    with pytest.raises(Conflict) as caught:
        add(releases, replace(V2, overrides=Overrides(instances=3)), 1.0)
    assert caught.value.code == "release_exists"
    assert len(add(releases, replace(V2, service="user"), 1.0).releases) == 2


def test_an_unknown_release_is_answered_with_those_there_are() -> None:
    with pytest.raises(NotFound) as caught:
        find(listed(V2, replace(V2, label="v3")), "chat", "v9")
    assert "v2, v3" in (caught.value.hint or "")

    with pytest.raises(NotFound, match="user@v2"):
        find(listed(V2), "user", "v2")


def test_a_release_goes_through_its_states() -> None:
    releases = listed(V2)
    for now, state in enumerate(
        (S.STARTING, S.SERVING, S.STANDBY, S.DRAINING, S.STOPPED, S.STARTING, S.FAILED)
    ):
        releases = change(releases, "chat", "v2", state, float(now), "because")
        entry = find(releases, "chat", "v2")
        assert (entry.state, entry.since, entry.reason) == (state, float(now), "because")
    assert change(releases, "chat", "v2", S.FAILED, 99.0, "because") is releases
    assert find(change(releases, "chat", "v2", S.FAILED, 99.0, "other"), "chat", "v2").since == 6.0


def test_what_does_not_follow_is_refused() -> None:
    for state in S:
        if state not in NEXT[S.REGISTERED] and state is not S.REGISTERED:
            with pytest.raises(Conflict, match="cannot become"):
                change(listed(V2), "chat", "v2", state, 1.0)
    assert set(NEXT) == set(S)


def test_only_what_nobody_needs_is_removed() -> None:
    releases = listed(V2)
    running = change(releases, "chat", "v2", S.STARTING, 1.0)

    with pytest.raises(Conflict, match="is starting"):
        remove(running, "chat", "v2")
    with pytest.raises(Conflict, match="routing or upgrade"):
        remove(releases, "chat", "v2", in_use=("v2",))
    assert remove(releases, "chat", "v2") == ReleaseList()
    with pytest.raises(NotFound):
        remove(ReleaseList(), "chat", "v2")


def test_the_oldest_that_nobody_needs_are_collected() -> None:
    releases = listed(*(replace(V2, label=f"v{n}") for n in range(8)), replace(V2, service="user", label="u"))
    releases = change(releases, "chat", "v0", S.STARTING, 0.0)
    retention = Retention(keep=3, age=2.0)

    def in_use(service: str) -> tuple[str, ...]:
        return ("v1",) if service == "chat" else ()

    gone = [release.label for release in collectable(releases, in_use, 5.0, retention)]
    assert gone == ["v2", "v3"]  # of v2 to v7 three stay, and v4 is too young
    assert collectable(releases, in_use, 5.0, Retention(keep=99)) == ()
