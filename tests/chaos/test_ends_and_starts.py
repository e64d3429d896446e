"""Two starts at once, a gateway told to end under load, a supervisor killed: no answer cut, none unbooked."""

import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from harness.platform import PROGRAM, START, Platform, wait_until

pytestmark = pytest.mark.real_model


def start(data: Path) -> "subprocess.Popen[str]":
    command = [PROGRAM, "up", "--detach", "--wait", "--port", "0", "--json", "--data", str(data)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]", data: Path) -> Platform:
    out, errors = process.communicate(timeout=START)
    assert process.returncode == 0, errors
    return Platform(data, json.loads(out)["url"], (data / "admin.key").read_text().strip())


def story(platform: Platform) -> bool:
    """Whether a streamed answer came whole."""
    body = platform.chat("Tell me a story about the sea.", max_tokens=60, stream=True).body
    return body.endswith(b"data: [DONE]\n\n") and b'"error"' not in body


def supervisor(platform: Platform) -> int:
    pid: int = json.loads(platform.command("status", "--json").stdout)["pid"]
    return pid


def booked(platform: Platform) -> int:
    requests: int = platform.request("GET", "/api/billing/usage").json()["totals"]["requests"]
    return requests


def test_ends_and_starts(tmp_path: Path) -> None:
    data = tmp_path / "data"
    starts = [start(data), start(data)]
    wait_until(lambda: any(one.poll() not in (None, 0) for one in starts), "one of two starts is refused")
    refused, other = sorted(starts, key=lambda one: one.poll() in (None, 0))
    assert "already runs" in refused.communicate()[1]
    platform = finish(other, data)
    try:
        gateway = platform.pid("gateway")
        with ThreadPoolExecutor(3) as clients:
            stories = [clients.submit(story, platform) for _ in range(3)]
            wait_until(lambda: active(platform) >= 3, "all stories are being told")
            os.kill(gateway, signal.SIGTERM)
            assert all(one.result() for one in stories)
        wait_until(lambda: platform.modules()["gateway"]["pid"] not in (0, gateway), "a new gateway")
        wait_until(lambda: platform.modules()["gateway"]["state"] == "ready", "it is ready")
        assert platform.chat("Hi", max_tokens=1).status == 200

        killed = supervisor(platform)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(killed), "the supervisor has ended")
        again = finish(start(data), data)

        assert again.key == platform.key
        assert again.request("GET", "/v1/models").status == 200
        wait_until(lambda: booked(again) >= 4, "every answer is in the books")
        assert booked(again) == 4

        platform = again
        with ThreadPoolExecutor(2) as clients:
            stories = [clients.submit(story, platform) for _ in range(2)]
            wait_until(lambda: active(platform) >= 2, "both stories are being told")
            assert platform.command("down").returncode == 0
            assert all(one.result() for one in stories)
        assert platform.command("down").returncode == 0
    finally:
        platform.command("down", "--now")


def active(platform: Platform) -> int:
    """Requests that the engine works on, as the metrics say."""
    for line in platform.request("GET", "/metrics").body.decode().splitlines():
        if line.startswith("moonpool_inference_running"):
            return int(float(line.rpartition(" ")[2]))
    return 0
