"""Every fault of a configuration is told with its place and what is allowed there."""

from pathlib import Path

import pytest

from moonpool.adapters.config.load import load
from moonpool.contracts.config import LimitConfig, ModelConfig, PlatformConfig, ServiceConfig, TargetConfig
from moonpool.core.errors import StartupError

WHOLE = """\
# every section
models:
  small:
    targets:
      - url: http://127.0.0.1:9100/v1
        model: there
        api_key_env: DEEPSEEK_API_KEY
        priority: 1
        weight: 3
      - local: small.gguf
    fallbacks: [other]
    context: 4096
  other: {targets: [{url: 'https://[::1]:8443/v1'}]}
limits:
  default: {requests_per_minute: 10, tokens_per_minute: 20, concurrent: 3}
gateway: {port: 0}
services: {chat: {instances: 2}}
"""


def read(tmp_path: Path, text: str, **environ: str) -> PlatformConfig:
    (tmp_path / "c.yaml").write_text(text)
    return load(tmp_path / "c.yaml", environ)


def refuse(tmp_path: Path, text: str, **environ: str) -> StartupError:
    with pytest.raises(StartupError) as caught:
        read(tmp_path, text, **environ)
    return caught.value


def test_a_whole_document(tmp_path: Path) -> None:
    config = read(tmp_path, WHOLE)
    assert config.models["small"] == ModelConfig(
        targets=(
            TargetConfig(
                url="http://127.0.0.1:9100/v1",
                model="there",
                api_key_env="DEEPSEEK_API_KEY",
                priority=1,
                weight=3,
            ),
            TargetConfig(local="small.gguf"),
        ),
        fallbacks=("other",),
        context=4096,
    )
    assert config.limits == {
        "default": LimitConfig(requests_per_minute=10, tokens_per_minute=20, concurrent=3)
    }
    assert config.services == {"chat": ServiceConfig(instances=2)}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}\n", "\ufeff# with a byte order mark\n"])
def test_nothing_is_all_defaults(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == PlatformConfig()


def test_no_file_is_all_defaults() -> None:
    assert load(None, {}) == PlatformConfig()
    assert load(None, {"MOONPOOL_GATEWAY__PORT": "9090"}).gateway.port == 9090


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("gateway:\n  port: many\n", 2, "gateway.port: expected int, got str", "whole number of at least 0"),
        ("gateway:\n  port: 70000\n", 2, "gateway.port: expected int <= 65535", "at most 65535"),
        ("gateway:\n  host: x\n  prot: 1\n", 3, "gateway has no setting prot", "Did you mean port?"),
        ("\n\ngatway: {}\n", 3, "the document has no setting gatway", "Did you mean gateway?"),
        ("telemetry:\n\n  access_log: maybe\n", 3, "access_log: expected bool", "true or false"),
        ("gateway:\n  host: no\n", 2, "gateway.host: expected str, got bool", "quotes"),
        ("models:\n  a:\n    context: 1\n", 2, "models.a: object missing required field targets", "targets"),
        ("models:\n  a:\n    targets: []\n", 3, "models.a.targets: expected array of length >= 1", "a list"),
        ("models:\n- a\n", 1, "models: expected object, got array", "names"),
        ("services:\n  chat: {}\n  user:\n    instances: 0\n", 4, "services.user.instances", "at least 1"),
        ("- a\n", 1, "must be settings", "models"),
        ("text\n", 1, "must be settings", "models"),
    ],
)
def test_the_schema(tmp_path: Path, text: str, line: int, message: str, hint: str) -> None:
    error = refuse(tmp_path, text)
    assert error.where == f"{tmp_path / 'c.yaml'}:{line}"
    assert message in error.message
    assert hint in (error.hint or "")


def test_the_guilty_one_of_many_models_is_named(tmp_path: Path) -> None:
    entry = "  m{}:\n    targets:\n      - url: http://h/v1\n        weight: {}\n"
    models = "".join(entry.format(number, "x" if number == 7 else number) for number in range(10))
    error = refuse(tmp_path, "models:\n" + models)
    assert error.message == "models.m7.targets[0].weight: expected int, got str"
    assert error.where == f"{tmp_path / 'c.yaml'}:{1 + 7 * 4 + 4}"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("gateway:\n  port: 1\n  port: 2\n", 3, "gateway.port is there twice"),
        ("gateway: {}\nmodels: {}\ngateway: {}\n", 3, "gateway is there twice"),
        ("gateway:\n  port: [\n", 3, "this is not YAML"),
        ("a: b: c\n", 1, "this is not YAML"),
        ("gateway:\n\tport: 1\n", 2, "this is not YAML"),
        ("a: *nowhere\n", 1, "this is not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "this is not YAML"),
        ("x: !!python/object/apply:os.system [echo]\n", 1, "has no setting x"),
        ("gateway:\n  port: !!python/name:os.system\n", 2, "this is not YAML"),
        ("models:\n  1: {}\n", 2, "a key must be text"),
        ("gateway:\n  ? [a]\n  : b\n", 2, "a key must be text"),
        ("gateway: &g\n  <<: {}\n", 2, "merge keys"),
        ("models: &m\n  a: *m\n", 1, "refers to itself"),
    ],
)
def test_the_syntax(tmp_path: Path, text: str, line: int, message: str) -> None:
    error = refuse(tmp_path, text)
    assert message in error.message
    assert error.where == f"{tmp_path / 'c.yaml'}:{line}"


def test_a_billion_laughs(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "nested too deeply" in refuse(tmp_path, "\n".join(lines)).message


def test_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"gateway:\n  host: \xff\n")
    with pytest.raises(StartupError, match="UTF-8") as caught:
        load(tmp_path / "c.yaml", {})
    assert caught.value.where == f"{tmp_path / 'c.yaml'}:2"
    assert "not YAML" in refuse(tmp_path, "a: \x00\n").message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(StartupError, match="cannot be read") as caught:
            load(path, {})
        assert caught.value.where == str(path)


def test_what_does_not_fit_together_has_its_line(tmp_path: Path) -> None:
    error = refuse(
        tmp_path, "models:\n  a:\n    targets:\n      - {url: 'http://h/v1'}\n    fallbacks: [b]\n"
    )
    assert error.where == f"{tmp_path / 'c.yaml'}:5"
    assert error.message == "models.a.fallbacks[0]: there is no model b"


# ── the environment ────────────────────────────────────────────────────────────────────────────────────


def test_the_environment_wins(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        WHOLE,
        MOONPOOL_GATEWAY__PORT="9090",
        MOONPOOL_GATEWAY__HOST="1",
        moonpool_gateway__drain_seconds="2.5",
        MOONPOOL_TELEMETRY__ACCESS_LOG="false",
        MOONPOOL_SERVICES__USER__INSTANCES="3",
        MOONPOOL_MODELS__SMALL__TARGETS__0__WEIGHT="5",
        MOONPOOL_MODELS__OTHER='{"targets": [{"url": "http://h/v1"}]}',
        MOONPOOL_DATA="unrelated",
        OTHER__PORT="unrelated",
    )
    assert (config.gateway.port, config.gateway.host, config.gateway.drain_seconds) == (9090, "1", 2.5)
    assert config.telemetry.access_log is False
    assert {name: service.instances for name, service in config.services.items()} == {"chat": 2, "user": 3}
    assert config.models["small"].targets[0].weight == 5
    assert config.models["other"].targets[0].url == "http://h/v1"


@pytest.mark.parametrize(
    ("name", "value", "message", "hint"),
    [
        ("MOONPOOL_GATEWAY__PORT", "many", "gateway.port cannot be 'many'", "whole number"),
        ("MOONPOOL_GATEWAY__PORT", "70000", "<= 65535", "at most 65535"),
        ("MOONPOOL_GATEWAY__PROT", "1", "gateway has no setting prot", "Did you mean port?"),
        ("MOONPOOL_GATWAY__PORT", "1", "has no setting gatway", "Did you mean gateway?"),
        ("MOONPOOL_GATEWAY__PORT__X", "1", "there is no setting at gateway.port.x", ""),
        ("MOONPOOL_MODELS__SMALL__TARGETS__7__WEIGHT", "1", "has only 2 entries", ""),
        ("MOONPOOL_MODELS__SMALL", "{", "models.small cannot be", "settings: targets"),
        ("MOONPOOL_SERVICES__CHAT__INSTANCES", "0", "services.chat.instances", "at least 1"),
        ("MOONPOOL_SERVICES__CAHT__INSTANCES", "1", "there is no service caht", "Did you mean chat?"),
        ("MOONPOOL_TELEMETRY__LOG_LEVEL", "loud", "loud is no log level", "debug"),
    ],
)
def test_a_fault_in_the_environment_names_the_variable(
    tmp_path: Path, name: str, value: str, message: str, hint: str
) -> None:
    error = refuse(tmp_path, WHOLE, **{name: value})
    assert error.where == name
    assert message in error.message
    assert hint in (error.hint or "")


def test_a_nest_of_brackets_is_told_and_no_crash(tmp_path: Path) -> None:
    error = refuse(tmp_path, "models: " + "[" * 3000 + "]" * 3000)
    assert "nested too deeply" in error.message
    assert error.hint


@pytest.mark.parametrize(
    "text", ["models: [", "models:\n\ta: 1\n", "a: 1\na: 2\n", "models: {}\n---\na: 1\n"]
)
def test_what_is_no_good_yaml_is_told_with_line_and_way_out(tmp_path: Path, text: str) -> None:
    error = refuse(tmp_path, text)
    assert error.where
    assert f"{tmp_path / 'c.yaml'}:" in error.where
    assert error.hint
