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
from moonpool.contracts.resilience import (
    BreakerPolicy,
    HedgePolicy,
    ModelTimeouts,
    ResilienceConfig,
    RestartPolicy,
    RetryPolicy,
)
from moonpool.contracts.route_policy import RoutePolicy, RouteTimeouts

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
        PlatformConfig(gateway=GatewayConfig(allow_private_targets=False, max_active_requests=1)),
        PlatformConfig(routes={"POST /v1/embeddings": RoutePolicy(timeouts=RouteTimeouts(total=3.0))}),
        PlatformConfig(resilience=ResilienceConfig(overprovisioning=2.0)),
        *(
            PlatformConfig(resilience=ResilienceConfig(**{part: policy}))
            for part, policy in {
                "breaker": BreakerPolicy(hold=False),
                "retry": RetryPolicy(attempts=1),
                "hedge": HedgePolicy(enabled=True),
                "timeouts": ModelTimeouts(connect=1.0),
                "restart": RestartPolicy(service_patience=0.0),
            }.items()
        ),
    ],
)
def test_what_is_followed(new: PlatformConfig) -> None:
    assert waiting(PlatformConfig(), new) == []


@pytest.mark.parametrize(
    ("new", "paths"),
    [
        (PlatformConfig(gateway=GatewayConfig(port=9)), ["gateway.port"]),
        (PlatformConfig(gateway=GatewayConfig(drain_seconds=9)), ["gateway.drain_seconds"]),
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


def test_the_packaged_weights_are_loaded_without_configuration() -> None:
    packaged = ModelConfig(targets=(TargetConfig(local="packaged"),))
    assert waiting(PlatformConfig(), PlatformConfig(models={"smollm2": packaged, "m": REMOTE})) == []
    assert waiting(PlatformConfig(models={"m": packaged}), PlatformConfig()) == []
