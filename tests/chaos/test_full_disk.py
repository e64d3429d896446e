"""A disk that fills up under a running platform: answers go on, and what they cost is booked afterwards."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.platform import PROGRAM, Platform, running, wait_until

pytestmark = [
    pytest.mark.real_model,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk"),
]
SIZE = 48 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("this machine allows no mounts")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def fill(disk: Path) -> Path:
    """Leave not a byte."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 512, 1):
            while True:
                try:
                    written = file.write(b"x" * size)
                except OSError:
                    break
                if written < size:
                    break
    return ballast


def booked(platform: Platform) -> int:
    requests: int = platform.request("GET", "/api/billing/usage").json()["totals"]["requests"]
    return requests


def test_nothing_is_lost_when_the_disk_is_full_for_a_while(disk: Path) -> None:
    with running(disk / "data") as platform:
        ballast = fill(disk)

        answers = [platform.chat("Hi", max_tokens=1) for _ in range(5)]
        refused = platform.request("POST", "/api/conversations", {"title": "x"})

        assert {answer.status for answer in answers} <= {200, 503}
        assert refused.status == 503
        assert "disk" in refused.json()["error"]["message"]
        assert int(refused.headers["retry-after"]) > 0
        ballast.unlink()
        answers.append(platform.chat("Hi", max_tokens=1))
        answered = sum(answer.status == 200 for answer in answers)
        assert answered > 0
        wait_until(lambda: booked(platform) >= answered, "every answer is in the books")
        assert booked(platform) == answered
        assert platform.request("POST", "/api/conversations", {"title": "x"}).status < 300


def test_a_start_on_a_full_disk_says_so_and_works_once_there_is_space(disk: Path) -> None:
    ballast = fill(disk)
    command = [PROGRAM, "up", "--detach", "--wait", "--port", "0", "--data", str(disk / "data")]

    up = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert up.returncode != 0
    assert "the disk is full" in up.stderr
    assert "--data" in up.stderr
    ballast.unlink()
    with running(disk / "data") as platform:
        assert platform.request("GET", "/v1/models").status == 200
