"""Help, refusals and answers of commands that need no platform."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from moonpool.cli.main import app

COMMANDS = ("up", "down", "status", "doctor", "serve")
HEAVY = ("litestar", "sqlalchemy", "uvicorn", "uvloop", "msgspec", "asyncio", "psutil")


def moonpool(*words):
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command):
    shown = moonpool(command, "--help")
    assert shown.exit_code == 0
    assert f"moonpool {command}" in shown.output.partition("Examples")[2]
    assert "--data" in shown.output


def test_help_names_every_command():
    shown = moonpool("--help").output
    assert all(f" {command} " in shown for command in COMMANDS)


def test_help_loads_nothing_heavy():
    code = f"import sys, moonpool.cli.main; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_status_without_a_platform(tmp_path):
    shown = moonpool("status", "--data", str(tmp_path), "--json")
    assert shown.exit_code == 3
    said = json.loads(shown.stdout)
    assert (said["running"], said["pid"], said["modules"]) == (False, None, [])
    assert "moonpool up" in moonpool("status", "--data", str(tmp_path)).stderr


def test_down_without_a_platform(tmp_path):
    assert "Nothing to stop" in moonpool("down", "--data", str(tmp_path)).stderr
    shown = moonpool("down", "--data", str(tmp_path), "--json")
    assert (shown.exit_code, json.loads(shown.stdout)) == (0, {"stopped": False})


def test_doctor(tmp_path):
    told = json.loads(moonpool("doctor", "--data", str(tmp_path), "--json").stdout)
    assert {check["name"] for check in told["checks"]} >= {"python", "port", "platform"}
    assert moonpool("doctor", "--data", str(tmp_path)).stdout.count("\n") >= len(told["checks"])


@pytest.mark.parametrize(
    "words",
    [
        ("up", "--port", "70000"),
        ("serve",),
        ("serve", "--target=,"),
        ("serve", "--target=chat", "--listen", "chat"),
        ("fly",),
    ],
)
def test_wrong_use_is_told(words):
    refused = moonpool(*words)
    assert refused.exit_code == 2
    assert "Traceback" not in refused.output


def test_the_data_folder_may_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MOONPOOL_DATA", str(tmp_path / "elsewhere"))
    assert str(tmp_path / "elsewhere") in moonpool("down").stderr.replace("\n", "")
