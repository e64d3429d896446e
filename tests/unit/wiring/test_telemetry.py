"""When a process exports spans."""

import msgspec
import pytest
import structlog

from moonpool.contracts.config import PlatformConfig, TelemetryConfig
from moonpool.wiring.settings import ModuleSettings
from moonpool.wiring.telemetry import open_spans

SETTINGS = ModuleSettings(name="chat", instance="chat-0", endpoint="unix:/x", data="/x", topology="/x/t.json")
STANDARD = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}


@pytest.mark.parametrize(
    ("otlp", "environment", "expected"),
    [
        ("", {}, False),
        ("http://c:4318", {}, True),
        ("", STANDARD, True),
        ("http://c:4318", {"OTEL_SDK_DISABLED": "true"}, False),
        ("", {**STANDARD, "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_the_configuration_or_the_standard_variables(otlp, environment, expected) -> None:
    config = PlatformConfig(telemetry=TelemetryConfig(otlp=otlp))
    spans = open_spans(config, SETTINGS, structlog.get_logger(), environment)
    assert (spans is not None) is expected


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"telemetry": {"trace_share": share}}, PlatformConfig)
