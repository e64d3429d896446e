"""A first start that cannot succeed is refused before anything is made."""

import socket

import pytest
from typer.testing import CliRunner

from moonpool.cli.main import app
from moonpool.contracts.config import ModelConfig, PlatformConfig, TargetConfig
from moonpool.core.errors import StartupError
from moonpool.wiring import preflight
from moonpool.wiring.layout import Layout
from moonpool.wiring.planning import make_plan
from moonpool.wiring.preflight import check_first_start, check_models

REMOTE = "models: {m: {targets: [{url: 'http://127.0.0.1:1/v1'}]}}"


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def up(data, config, *words):
    file = data.with_name("moonpool.yaml")
    file.write_text(config)
    return CliRunner().invoke(app, ["up", "--data", str(data), "--config", str(file), *words])


@pytest.mark.parametrize("words", [(), ("--detach", "--wait")])
def test_a_taken_port_leaves_nothing_behind(data, words):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = up(data, REMOTE, "--port", str(taken.getsockname()[1]), *words)
    assert refused.exit_code == 1
    assert "the port is taken by" in str(refused.exception)
    assert not data.exists()


@pytest.mark.parametrize("content", [None, b"no weights"])
def test_weights_that_are_none_leave_nothing_behind(data, content):
    weights = data.with_name("m.gguf")
    if content is not None:
        weights.write_bytes(content)
    refused = up(data, f"models: {{m: {{targets: [{{local: {weights}}}]}}}}", "--port", "0")
    assert refused.exit_code == 1
    assert str(weights) in str(refused.exception)
    assert not data.exists()


def test_what_can_start_passes_and_nothing_is_made(data):
    config = PlatformConfig(models={"m": ModelConfig(targets=(TargetConfig(url="http://127.0.0.1:1/v1"),))})
    check_first_start(Layout(data), config, make_plan(config, port=0))
    assert not data.exists()


def test_later_starts_look_when_they_come_to_it(data):
    config = PlatformConfig(models={"m": ModelConfig(targets=(TargetConfig(local="/none.gguf"),))})
    Layout(data).create()
    check_first_start(Layout(data), config, make_plan(config, port=0))


def test_an_engine_is_needed_for_local_models_only(monkeypatch, tmp_path):
    monkeypatch.setattr(preflight, "ENGINE", "no_such_engine")
    weights = tmp_path / "m.gguf"
    weights.write_bytes(b"GGUF")
    local, remote = TargetConfig(local=str(weights)), TargetConfig(url="http://127.0.0.1:1/v1")
    with pytest.raises(StartupError, match="engine is not installed"):
        check_models(PlatformConfig(models={"m": ModelConfig(targets=(local,))}))
    assert check_models(PlatformConfig(models={"m": ModelConfig(targets=(remote,))})) == {}
