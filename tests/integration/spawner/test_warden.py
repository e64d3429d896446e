"""The warden with real programs. It forks and is single-threaded: each test has a process for it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

WARDEN = """
import json, os, sys
from moonpool.adapters.spawner.handing import readable
from moonpool.adapters.spawner.warden import run_program
argv, lifeline, status, drain, replaced = json.loads(sys.argv[1])
kept = {"TOLD_FD": readable(b"a secret")}
ways = {"kept": kept, "lifeline": lifeline, "status": status, "drain_timeout": drain}
ways["replaced_drain_timeout"] = replaced
sys.exit(run_program(argv, dict(os.environ), [], **ways))
"""
OBEDIENT = """
import os, pathlib, signal, sys, time
told = os.read(int(os.environ["TOLD_FD"]), 99).decode()
signal.signal(signal.SIGTERM, lambda *a: sys.exit(int(sys.argv[2])))
pathlib.Path(sys.argv[1]).write_text(f"{os.getpid()} {told}")
time.sleep(60)
"""
STUBBORN = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "60"])
pathlib.Path(sys.argv[1]).write_text(f"{os.getpid()} {child.pid}")
time.sleep(60)
"""


class Warden:
    def __init__(self, argv: list[str], drain: float = 5.0, replaced: float = 0.0) -> None:
        lifeline, self.lifeline = os.pipe()
        self.status, status = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", WARDEN, json.dumps([argv, lifeline, status, drain, replaced])],
            pass_fds=(lifeline, status),
        )
        os.close(lifeline)
        os.close(status)


@pytest.fixture
def said(tmp_path: Path) -> Path:
    return tmp_path / "said"


def words(path: Path) -> list[str]:
    deadline = time.monotonic() + 10
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.read_text().split()


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_the_end_of_the_lifeline_ends_the_program_as_it_wants(said: Path) -> None:
    warden = Warden([sys.executable, "-c", OBEDIENT, str(said), "7"])
    assert words(said)[1:] == ["a", "secret"]
    os.close(warden.lifeline)
    assert warden.process.wait(10) == 7


def test_what_does_not_end_in_time_is_killed_with_all_it_started(said: Path) -> None:
    warden = Warden([sys.executable, "-c", STUBBORN, str(said)], drain=0.2)
    pids = [int(word) for word in words(said)]
    os.close(warden.lifeline)
    assert warden.process.wait(10) == (-signal.SIGKILL) % 256
    assert all(gone(pid) for pid in pids)


def test_what_is_replaced_has_long_until_the_lifeline_ends(said: Path) -> None:
    warden = Warden([sys.executable, "-c", STUBBORN, str(said)], drain=0.2, replaced=60.0)
    pids = [int(word) for word in words(said)]
    assert os.read(warden.status, 4096) == b"\0\n"
    os.write(warden.lifeline, b"\n")
    with pytest.raises(subprocess.TimeoutExpired):
        warden.process.wait(0.6)
    os.close(warden.lifeline)
    assert warden.process.wait(5) == (-signal.SIGKILL) % 256
    assert all(gone(pid) for pid in pids)


def test_what_is_replaced_ends_at_its_bound(said: Path) -> None:
    warden = Warden([sys.executable, "-c", STUBBORN, str(said)], replaced=0.2)
    words(said)
    os.write(warden.lifeline, b"\n")
    assert warden.process.wait(5) == (-signal.SIGKILL) % 256
    os.close(warden.lifeline)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel does it (prctl(2))")
def test_the_program_does_not_outlive_its_warden(said: Path) -> None:
    warden = Warden([sys.executable, "-c", OBEDIENT, str(said), "0"])
    pid = int(words(said)[0])
    warden.process.kill()
    warden.process.wait(10)
    assert gone(pid)


def test_a_program_that_is_not_there_is_told() -> None:
    warden = Warden(["/nowhere/program"])
    assert os.read(warden.status, 4096) == b"cannot be run: /nowhere/program: No such file or directory"
    assert warden.process.wait(10) == 78
