"""What a fork server must not have (threads, event loops, the engine, what nobody uses), and that it has what
its children import: what each of them loads for itself is memory twelve times."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from moonpool.wiring.layout import Layout
from moonpool.wiring.registry import REGISTRY
from moonpool.wiring.supervisor import PRELOAD, Plan, Supervisor

PROGRAM = """
import json, os, sys, threading
import asyncio
import moonpool.wiring.preload as preload
print(json.dumps({
    "threads": threading.active_count(),
    "tasks": len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 1,
    "loop": asyncio._get_running_loop() is not None,
    "engine": [name for name in ("xllamacpp", "torch") if name in sys.modules],
    "unused": [name for name in ("pydantic", "pygments", "rich", "typer") if name in sys.modules],
    "missing": [name for name in (*preload.LIBRARIES, *preload.OURS) if name not in sys.modules],
    "group": os.getpgid(0) == os.getpid(),
    "collecting": __import__("gc").isenabled(),
}))
"""
SPY = """
import os, sys
file = os.open(os.environ["SPY_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
def hear(event, arguments):
    if event == "import":
        os.write(file, f"{arguments[0]}\\n".encode())
os.register_at_fork(after_in_child=lambda: sys.addaudithook(hear))
"""
"""Loaded last by a fork server: it tells what its children look for that is not loaded yet."""


def test_the_fork_server_is_loaded_and_quiet():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "threads": 1,
        "tasks": 1,
        "loop": False,
        "engine": [],
        "unused": [],
        "missing": [],
        "group": True,
        "collecting": False,
    }


async def test_no_module_imports_anything_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "spy.py").write_text(SPY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SPY_FILE", str(tmp_path / "imports"))
    config = tmp_path / "moonpool.yaml"
    config.write_text("models: {plain: {targets: [{url: 'http://127.0.0.1:9/v1'}]}}")
    plan = Plan(modules=REGISTRY, port=0, config=str(config), preload=(*PRELOAD, "spy"))
    supervisor = Supervisor(Layout(tmp_path / "data"), plan)
    await supervisor.prepare()
    try:
        await supervisor.start()
        await supervisor.wait_ready()
    finally:
        await supervisor.stop()
    looked_for = set((tmp_path / "imports").read_text().split())
    assert "starlette" in looked_for  # Litestar's, not installed: the spy hears
    assert [name for name in sorted(looked_for) if _is_there(name)] == []


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # nor is the package that it would be in
        return False
