"""Moonpool itself: the whole platform as `moonpool up` starts it, all filters on, real key, access log.

The gateway is alone on its core; the services, which take its events, share the other cores with the load,
which goes first.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict

import psutil

from bench.machine import free_port, pin, yield_to_load
from bench.peers.peer import Peer, Setting, launch
from bench.requests import MODEL, Site, stream_model

READY = 60.0
"""Seconds the platform may take to be ready."""
WELL = ("ready", "degraded")
UNLIMITED = 1_000_000_000
STREAMS = (0, 8, 1000)
"""The pauses, in milliseconds, of the streams that the measurements ask for."""


class Module(TypedDict):
    """What `moonpool status --json` tells of one process; the part that is used here."""

    name: str
    pid: int
    state: str


def start(setting: Setting) -> Peer | None:
    """None when the platform's program is not there."""
    program = Path(sys.executable).with_name("moonpool")
    if importlib.util.find_spec("moonpool") is None or not program.exists():
        return None
    data, port = setting.folder / "moonpool", free_port()
    config = setting.folder / "moonpool.yaml"  # JSON is YAML, too
    config.write_text(json.dumps(_config(setting)))
    command = [str(program), "up", "--port", str(port), "--data", str(data), "--config", str(config)]
    log = setting.folder / "moonpool.log"
    pid = launch(command, log, setting.cores.others, setting.stack, {**os.environ, "NO_COLOR": "1"})
    modules = _await_ready(program, data, pid, log)
    gateway = [module["pid"] for module in modules if module["name"] == "gateway"]
    for each in gateway:
        pin(each, frozenset({setting.cores.gateway}))
    site = Site(port, (data / "admin.key").read_text().strip())

    def beside() -> list[int]:
        family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        return [member for member in family if member not in gateway]

    yield_to_load(beside())
    return Peer("Moonpool", _version(), site, site, tuple(gateway), beside)


def _config(setting: Setting) -> dict[str, object]:
    def model(upstream: int, name: str) -> dict[str, object]:
        return {"targets": [{"url": f"http://127.0.0.1:{upstream}/v1", "model": name}]}

    names = [stream_model(pause) for pause in STREAMS]
    limits = dict.fromkeys(("requests_per_minute", "tokens_per_minute", "concurrent"), UNLIMITED)
    return {
        "models": {
            MODEL: model(setting.plain, MODEL),
            **{name: model(setting.streaming, name) for name in names},
        },
        "limits": {"default": limits},
    }


def _await_ready(program: Path, data: Path, pid: int, log: Path) -> list[Module]:
    command = [str(program), "status", "--json", "--data", str(data)]
    end = time.monotonic() + READY
    while time.monotonic() < end:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            break
        status = subprocess.run(command, capture_output=True, text=True, check=False)
        if status.stdout:  # exit code 1 is for a degraded module: there is no local model here
            modules: list[Module] = json.loads(status.stdout)["modules"]
            if modules and all(module["state"] in WELL for module in modules):
                return modules
        time.sleep(0.3)
    raise SystemExit(f"moonpool up did not become ready; it said:\n{log.read_text()[-3000:]}")


def _version() -> str:
    from moonpool import __version__

    return __version__
