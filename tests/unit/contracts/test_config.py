"""The configuration document: the example everyone writes first is taken, a slip is refused."""

import msgspec
import pytest

from moonpool.contracts.config import SERVICES, PlatformConfig

FIRST = """
models:
  my-model:
    targets:
      - url: http://127.0.0.1:9100/v1
        model: name-at-the-endpoint
        api_key_env: DEEPSEEK_API_KEY
        priority: 0
        weight: 1
    fallbacks: [other-alias]
limits:
  default: {requests_per_minute: 600, tokens_per_minute: 200000, concurrent: 64}
"""


def test_nothing_needs_to_be_configured() -> None:
    config = msgspec.yaml.decode(b"{}", type=PlatformConfig)
    assert config == PlatformConfig()
    assert config.models == {}
    assert config.gateway.port == 8080


def test_the_design_s_example() -> None:
    config = msgspec.yaml.decode(FIRST, type=PlatformConfig)
    (target,) = config.models["my-model"].targets
    assert (target.url, target.weight) == ("http://127.0.0.1:9100/v1", 1)
    assert config.limits["default"].concurrent == 64


@pytest.mark.parametrize(
    "text",
    [
        "modles: {}",
        "models: {a: {targets: []}}",
        "models: {a: {}}",
        "models: {a: {targets: [{url: x, wieght: 1}]}}",
        "models: {a: {targets: [{url: x, weight: -1}]}}",
        "gateway: {port: 70000}",
        "gateway: {workers: 0}",
        "gateway: {drain_seconds: -1}",
        "limits: {default: {requests_per_minute: 0}}",
        "engine: {slots: zero}",
    ],
)
def test_a_slip_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.yaml.decode(text, type=PlatformConfig)


def test_nine_services() -> None:
    assert len(SERVICES) == len(set(SERVICES)) == 9
