import ast
import re
import socket
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from moonpool.contracts.config import ModelConfig, PlatformConfig, TargetConfig
from moonpool.ports.discovery import Instance
from moonpool.services.inference import weights
from moonpool.wiring import diagnosis, preflight
from moonpool.wiring.diagnosis import Verdict, diagnose
from moonpool.wiring.layout import Layout
from moonpool.wiring.topology import TopologyFile

ROOT = Path(__file__).parents[3]
PROJECT = ROOT / "pyproject.toml"


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "data")


def test_a_diagnosis_changes_nothing(layout):
    checks = list(diagnose(layout, PlatformConfig(), port=0))
    assert [check.name for check in checks] == [
        *(
            "python",
            "packages",
            "weights",
            "folder",
            "disk",
            "memory",
            "open files",
            "clock",
            "port",
            "platform",
            "documents",
        )
    ]
    assert not layout.root.exists()


def test_every_ill_finding_has_a_way_out(layout, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "ENGINE", "no_such_engine")
    monkeypatch.setattr(diagnosis, "LITTLE_DISK", 10**18)
    (tmp_path / "file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ill = [
            diagnosis.check_python((3, 10)),
            diagnosis.check_packages(
                ("msgspec>=0.21", "no_such_package[x]>=1", "no.such.part; python_version > '3'")
            ),
            diagnosis.check_engine(PlatformConfig()),
            diagnosis.check_folder(Layout(tmp_path / "file" / "data")),
            diagnosis.check_disk(layout),
            diagnosis.check_clock(layout, now=1000.0),
            diagnosis.check_port("127.0.0.1", taken.getsockname()[1], None),
        ]
    assert [check.verdict for check in ill] == [Verdict.FAIL] * len(ill)
    assert all(check.hint for check in ill)
    assert ill[1].detail == "missing: no_such_package, no.such.part"


def test_the_packages_are_those_that_the_project_names():
    project = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    found = diagnosis.check_packages()
    assert (found.verdict, found.detail) == (Verdict.OK, f"all {len(project)} there")
    assert diagnosis.check_packages(project).detail == found.detail
    optional = "torch>=2.9; extra == 'training'"
    assert diagnosis.check_packages(["msgspec", optional]).detail == "all 1 there"


def test_the_project_names_what_it_imports():
    imported = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module)
    known = {*sys.stdlib_module_names, "moonpool"}
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    named = {
        re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")
        for requirement in (*project["dependencies"], *extras["local"], *extras["training"])
    }
    providers = metadata.packages_distributions()
    for top in sorted({name.partition(".")[0] for name in imported} - known):
        found = {provider.lower().replace("_", "-") for provider in providers.get(top, [top])}
        assert found & named, f"{top} is imported, and pyproject.toml names none of {found}"


def test_a_source_folder_is_no_fault(monkeypatch):
    monkeypatch.setattr(diagnosis, "DISTRIBUTION", "moonpool-that-nobody-installed")
    assert diagnosis.check_packages().verdict is Verdict.WARN


def models(**target):
    return PlatformConfig(models={"m": ModelConfig(targets=(TargetConfig(**target),))})


def test_remote_models_need_no_weights(monkeypatch):
    monkeypatch.setattr(preflight, "ENGINE", "no_such_engine")
    assert diagnosis.check_engine(models(url="http://127.0.0.1:1/v1")).verdict is Verdict.OK


def test_a_local_file_must_be_there(monkeypatch, tmp_path):
    monkeypatch.setattr(preflight, "ENGINE", "msgspec")
    assert diagnosis.check_engine(models(local=str(tmp_path / "m.gguf"))).verdict is Verdict.FAIL
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert diagnosis.check_engine(models(local=str(tmp_path / "m.gguf"))).verdict is Verdict.OK


def test_missing_weights_are_told(monkeypatch):
    monkeypatch.setattr(preflight, "ENGINE", "msgspec")
    monkeypatch.setattr(weights, "PACKAGE", "no-such-weights")
    assert "weights are not installed" in diagnosis.check_engine(PlatformConfig()).detail


def test_a_folder_open_to_others_is_a_warning(layout):
    layout.create()
    assert diagnosis.check_folder(layout).verdict is Verdict.OK
    layout.root.chmod(0o755)
    assert diagnosis.check_folder(layout).verdict is Verdict.WARN


def test_a_clock_that_went_back(layout):
    layout.create()
    TopologyFile(layout.topology).publish(())
    written = layout.topology.stat().st_mtime
    assert diagnosis.check_clock(layout, now=written + 5).verdict is Verdict.OK
    assert diagnosis.check_clock(layout, now=written - 3600).verdict is Verdict.WARN


@pytest.mark.parametrize(
    ("state", "verdict"), [("ready", Verdict.OK), ("degraded", Verdict.WARN), ("crashed", Verdict.FAIL)]
)
def test_the_running_platform(layout, state, verdict):
    layout.create()
    one = Instance(
        name="chat", release="v1", instance="c", pid=1, state=state, endpoint="unix:x", reason="why"
    )
    TopologyFile(layout.topology).publish((one,))
    assert diagnosis.check_platform(layout, 7).verdict is verdict
    assert diagnosis.check_platform(layout, None).detail == "not running"
