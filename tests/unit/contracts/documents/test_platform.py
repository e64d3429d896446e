"""How the parts of a configuration must fit together."""

import math

import pytest

from moonpool.contracts.config import (
    GatewayConfig,
    InfrastructureConfig,
    ModelConfig,
    PlatformConfig,
    ServiceConfig,
    TargetConfig,
    TelemetryConfig,
)
from moonpool.contracts.documents.diff import with_value
from moonpool.contracts.documents.place import Document
from moonpool.contracts.documents.platform import PLATFORM, check, find_cycle
from moonpool.contracts.documents.validation import DocumentFault, validate

URL = "http://127.0.0.1:9100/v1"


def model(*fallbacks: str, capabilities: tuple[str, ...] = ("chat",), **target: object) -> ModelConfig:
    targets = (TargetConfig(**(target or {"url": URL})),)  # type: ignore[arg-type]
    return ModelConfig(targets=targets, fallbacks=fallbacks, capabilities=capabilities)


def models(**given: ModelConfig) -> PlatformConfig:
    return PlatformConfig(models=given)


def test_the_defaults_fit() -> None:
    assert check(PlatformConfig()) == []


@pytest.mark.parametrize(
    "config",
    [
        models(a=model("b"), b=model()),
        models(a=model(local="x.gguf")),
        models(a=model(url="https://api.example.com:8443/v1", api_key_env="MY_KEY_2")),
        PlatformConfig(gateway=GatewayConfig(tls_certificate="c", tls_key="k")),
        PlatformConfig(
            gateway=GatewayConfig(workers=2), infrastructure=InfrastructureConfig(cache="redis://h")
        ),
        PlatformConfig(services={"chat": ServiceConfig()}),
    ],
)
def test_what_fits(config: PlatformConfig) -> None:
    assert check(config) == []


TARGET = ("models", "a", "targets", 0)


@pytest.mark.parametrize(
    ("config", "path", "word"),
    [
        (models(a=model(url=URL, local="x")), TARGET, "both"),
        (models(a=model(url="")), TARGET, "neither"),
        (models(a=model(url="ftp://h/v1")), (*TARGET, "url"), "ftp"),
        (models(a=model(url="localhost:9100/v1")), (*TARGET, "url"), "http"),
        (models(a=model(url="http:///v1")), (*TARGET, "url"), "http"),
        (models(a=model(url="http://h:99999/v1")), (*TARGET, "url"), "http"),
        (models(a=model(url="http://user:pw@h/v1")), (*TARGET, "url"), "http"),
        (models(a=model(url="http://[::1/v1")), (*TARGET, "url"), "http"),
        (models(a=model(url=URL, api_key_env="sk-123")), (*TARGET, "api_key_env"), "variable"),
        (models(a=model(url=URL, weight=0)), ("models", "a", "targets"), "weight 0"),
        (models(a=model("b")), ("models", "a", "fallbacks", 0), "no model b"),
        (models(a=model("a")), ("models", "a", "fallbacks"), "circle: a → a"),
        (models(a=model("b"), b=model("c"), c=model("b")), ("models", "b", "fallbacks"), "b → c → b"),
        (models(a=model(capabilities=("chatt",))), ("models", "a", "capabilities", 0), "chatt"),
        (models(**{" a": model()}), ("models", " a"), "cannot be a model's name"),
        (models(**{"a b/é": model()}), ("models", "a b/é"), "cannot be a model's name"),
        (PlatformConfig(services={"chta": ServiceConfig()}), ("services", "chta"), "chta"),
        (
            PlatformConfig(gateway=GatewayConfig(tls_key="k")),
            ("gateway", "tls_key"),
            "without tls_certificate",
        ),
        (PlatformConfig(gateway=GatewayConfig(workers=2)), ("gateway", "workers"), "cache"),
        (PlatformConfig(telemetry=TelemetryConfig(log_level="x")), ("telemetry", "log_level"), "x"),
    ],
)
def test_what_does_not_fit(config: PlatformConfig, path: tuple[str | int, ...], word: str) -> None:
    problems = check(config)
    assert [problem.path for problem in problems] == [path]
    assert word in problems[0].message
    assert problems[0].hint


def test_a_key_in_the_wrong_place_is_not_repeated() -> None:
    (problem,) = check(models(a=model(url=URL, api_key_env="sk-secret")))
    assert "sk-secret" not in problem.message + problem.hint


def test_all_faults_are_found() -> None:
    assert len(check(models(a=model("x", "y"), b=model(url="")))) == 3


@pytest.mark.parametrize(
    ("graph", "cycle"),
    [
        ({}, []),
        ({"a": ("b", "c"), "b": ("c",), "c": ()}, []),
        ({"a": ("b",), "b": ("c",), "c": ("a",)}, ["a", "b", "c"]),
    ],
)
def test_cycles(graph: dict[str, tuple[str, ...]], cycle: list[str]) -> None:
    found = find_cycle(graph)
    assert set(found) == set(cycle)
    assert all(following in graph[name] for name, following in zip(found, found[1:] + found[:1], strict=True))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("gateway", "drain_seconds"), math.inf),
        (("gateway", "replaced_drain_seconds"), math.nan),
        (("resilience", "breaker", "open_first"), 1e308),
        (("resilience", "retry", "attempts"), 10**20),
        (("resilience", "overprovisioning"), 1e300),
        (("models", "m", "targets", 0, "weight"), 10**20),
        (("models", "m", "targets", 0, "priority"), 10**20),
        (("engine", "queue"), 10**20),
        (("limits", "default", "tokens_per_minute"), 10**20),
    ],
)
def test_no_number_is_beyond_all_sense(path: tuple[str | int, ...], value: float) -> None:
    targets = [{"url": "http://127.0.0.1:9/v1"}]
    content = with_value({"models": {"m": {"targets": targets}}}, path, value)
    with pytest.raises(DocumentFault) as fault:
        validate(Document("platform", content), PLATFORM)
    assert fault.value.path == path
