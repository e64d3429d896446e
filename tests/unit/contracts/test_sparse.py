import msgspec
import pytest

from moonpool.contracts.config import EngineConfig, ModelConfig, TargetConfig
from moonpool.contracts.documents.sparse import sparse
from moonpool.contracts.manifest import Manifest
from moonpool.contracts.releases import (
    CommandSource,
    EndpointSource,
    EnvironmentSource,
    Overrides,
    PackageSource,
    Release,
    ServiceReleases,
)
from moonpool.services.chat.manifest import MANIFEST as CHAT
from moonpool.services.inference.manifest import MANIFEST as INFERENCE


def test_only_what_was_said() -> None:
    release = Release(service="chat", label="v2", note="why", overrides=Overrides(environment={"A": "b"}))
    assert sparse(release) == {
        "service": "chat",
        "label": "v2",
        "note": "why",
        "overrides": {"environment": {"A": "b"}},
    }


@pytest.mark.parametrize(
    "release",
    [
        Release(service="chat", label="v2"),
        Release(service="chat", label="v2", source=PackageSource(), created=1.5, by="ann", digest="d"),
        Release(service="chat", label="v2", source=EnvironmentSource(path="/x"), manifest=CHAT),
        Release(service="inference", label="v2", source=EnvironmentSource(path="/x"), manifest=INFERENCE),
        Release(service="chat", label="v2", source=CommandSource(argv=("a", "b"), folder="/")),
        Release(service="inference", label="v2", source=EndpointSource(url="https://a.example/v1")),
        Release(
            service="inference",
            label="v2",
            overrides=Overrides(
                models={"m": ModelConfig(targets=(TargetConfig(local="/big.gguf"),))},
                engine=EngineConfig(slots=3),
            ),
        ),
        Release(service="chat", label="v2", manifest=Manifest(service="chat", summary="")),
    ],
)
def test_decoded_it_is_the_same(release: Release) -> None:
    document = ServiceReleases(service=release.service, releases={release.label: release})
    content = msgspec.json.decode(msgspec.json.encode(sparse(document)))
    assert msgspec.convert(content, ServiceReleases) == document
