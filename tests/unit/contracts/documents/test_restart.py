"""What of a change waits for the next start."""

import pytest

from moonpool.contracts.config import (
    EngineConfig,
    GatewayConfig,
    LimitConfig,
    ModelConfig,
    PlatformConfig,
    TargetConfig,
    TelemetryConfig,
)
from moonpool.contracts.documents.place import spell
from moonpool.contracts.documents.platform import restart_paths

REMOTE = ModelConfig(targets=(TargetConfig(url="http://127.0.0.1:9/v1"),))
LOCAL = ModelConfig(targets=(TargetConfig(local="a.gguf"),))
OTHER = ModelConfig(targets=(TargetConfig(url="http://127.0.0.1:9/v1"), TargetConfig(local="b.gguf")))


def waiting(old: PlatformConfig, new: PlatformConfig) -> list[str]:
    return [spell(path) for path in restart_paths(old, new)]


@pytest.mark.parametrize(
    "new",
    [
        PlatformConfig(models={"m": REMOTE}),
        PlatformConfig(limits={"default": LimitConfig(concurrent=3)}),
        PlatformConfig(telemetry=TelemetryConfig(log_level="debug")),
        PlatformConfig(engine=EngineConfig(queue=3)),
        PlatformConfig(gateway=GatewayConfig(allow_private_targets=False)),
    ],
)
def test_what_is_followed(new: PlatformConfig) -> None:
    assert waiting(PlatformConfig(), new) == []


@pytest.mark.parametrize(
    ("new", "paths"),
    [
        (PlatformConfig(gateway=GatewayConfig(port=9)), ["gateway.port"]),
        (PlatformConfig(engine=EngineConfig(slots=2, queue=3)), ["engine.slots"]),
        (PlatformConfig(models={"m": LOCAL}), ["models.m.targets[0].local"]),
        (PlatformConfig(models={"m": OTHER}), ["models.m.targets[1].local"]),
    ],
)
def test_what_waits(new: PlatformConfig, paths: list[str]) -> None:
    assert waiting(PlatformConfig(), new) == paths


def test_weights_that_are_loaded_are_served_under_any_name() -> None:
    assert waiting(PlatformConfig(models={"m": LOCAL}), PlatformConfig(models={"n": LOCAL})) == []
    assert waiting(PlatformConfig(models={"m": REMOTE}), PlatformConfig()) == ["models"]
