"""`moonpool up`, `status`, `down` and `serve` as processes of their own, with dummy modules."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from moonpool.wiring.layout import Layout
from moonpool.wiring.lock import holder
from moonpool.wiring.topology import read_topology

PROGRAM = [sys.executable, str(Path(__file__).parent / "dummy_platform.py")]


def wait_until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)
    return value


def has_ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    yield folder
    if holder(Layout(folder)) is not None:
        moonpool("down", "--now", data=folder)


def moonpool(*words, data, **options):
    command = [*PROGRAM, *words, "--data", str(data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def up(*words, data):
    return moonpool("up", "--detach", "--wait", "--port", "0", *words, data=data)


def modules(data):
    return {module.name: module for module in read_topology(Layout(data).topology).modules}


def all_ready(data):
    return {module.state for module in modules(data).values()} == {"ready"}


def get(url, target):
    host, port = url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        return connection.recv(65536).decode()


def behave(tmp_path, **behaviour):
    path = tmp_path / "behaviour.json"
    path.write_text(json.dumps(behaviour))
    return "--config", str(path)


def test_up_status_down(data):
    started = up("--json", data=data)
    assert started.returncode == 0, started.stderr
    told = json.loads(started.stdout)
    assert told["ready"] is True
    assert [module["state"] for module in told["modules"]] == ["ready", "ready"]
    assert "200" in get(told["url"], "/livez")

    status = moonpool("status", "--json", data=data)
    assert status.returncode == 0
    shown = json.loads(status.stdout)
    assert set(shown["modules"][0]) >= {"name", "release", "instance", "pid", "state", "endpoint"}
    assert psutil.Process(shown["pid"]).is_running()
    assert "ready" in moonpool("status", data=data).stdout

    again = up(data=data)
    assert again.returncode == 1
    assert f"already runs on this data (pid {shown['pid']})" in again.stderr
    assert "Traceback" not in again.stderr

    down = moonpool("down", data=data)
    assert down.returncode == 0
    assert "Stopped" in down.stderr
    assert has_ended(shown["pid"])
    assert moonpool("status", data=data).returncode == 3
    assert moonpool("down", data=data).returncode == 0


def test_a_supervisor_in_the_background_keeps_nothing_of_the_command_line(data, monkeypatch):
    secret = "0123456789abcdef" * 4
    monkeypatch.setenv("MOONPOOL_SECRET", secret)
    assert up(data=data).returncode == 0
    assert not Layout(data).root_key.exists()  # it was given the secret, but where nobody sees it
    supervisor = psutil.Process(holder(Layout(data)))
    assert secret not in [*supervisor.cmdline(), *supervisor.environ().values()]
    assert str(data) in supervisor.cmdline()
    loaded = {Path(file.path).name.partition(".")[0] for file in supervisor.memory_maps()}
    assert "_pydantic_core" not in loaded
    assert "_core" in loaded  # msgspec's: compiled modules are seen so
    children = [" ".join(child.cmdline()) for child in supervisor.children()]
    assert [words for words in children if "resource_tracker" in words] == []
    assert any("forkserver" in words for words in children)


def test_a_killed_supervisor_takes_its_children_along_and_the_next_up_works(data, tmp_path):
    url = json.loads(up("--json", *behave(tmp_path, beta={"linger": 0.3}), data=data).stdout)["url"]
    before = modules(data)
    family = psutil.Process(holder(Layout(data)))
    descendants = family.children(recursive=True)
    assert len(descendants) >= 3  # fork server and two modules
    family.kill()
    # At once, on the same port, while the old ones drain.
    port = url.rsplit(":", 1)[1]
    again = moonpool("up", "--detach", "--wait", "--port", port, data=data)
    assert again.returncode == 0, again.stderr
    wait_until(lambda: not any(child.is_running() for child in descendants))
    after = modules(data)
    assert all_ready(data)
    assert {m.instance for m in after.values()}.isdisjoint(m.instance for m in before.values())
    assert "200" in get(url, "/livez")


def test_a_module_that_cannot_start(data, tmp_path):
    failed = up(*behave(tmp_path, beta={"refuse": "the disk is upside down"}), data=data)
    assert failed.returncode == 1
    assert "beta cannot start: beta.db: the disk is upside down" in failed.stderr
    assert "Mend it." in failed.stderr
    assert "Traceback" not in failed.stderr
    assert moonpool("status", data=data).returncode == 3


def test_not_ready_in_time(data, tmp_path):
    gate = tmp_path / "gate"
    late = up("--timeout", "3", *behave(tmp_path, beta={"unready_until": str(gate)}), data=data)
    assert late.returncode == 1
    assert "not ready after 3 s: beta (model: loading 42 %)" in late.stderr
    assert moonpool("status", data=data).returncode == 1
    gate.touch()
    wait_until(lambda: all_ready(data))


def test_detached_without_waiting(data):
    started = moonpool("up", "--detach", "--port", "0", data=data)
    assert started.returncode == 0
    assert "Starting in the background" in started.stderr
    wait_until(lambda: all_ready(data))


def test_a_taken_port(data):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = moonpool("up", "--detach", "--wait", "--port", port, data=data)
    assert refused.returncode == 1
    assert f"127.0.0.1:{port}: the port is taken by" in refused.stderr
    assert "--port" in refused.stderr


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    for words in (("up",), ("up", "--detach")):
        refused = moonpool(*words, data=tmp_path / "file" / "data")
        assert refused.returncode == 1
        assert "cannot be used" in refused.stderr
        assert "--data" in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("presses", [1, 2])
def test_the_foreground_ends_with_ctrl_c(data, tmp_path, presses):
    linger = {1: 0.1, 2: 30}[presses]
    command = [
        *PROGRAM,
        "up",
        "--port",
        "0",
        "--data",
        str(data),
        *behave(tmp_path, front={"linger": linger}),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: all_ready(data))
        pids = [module.pid for module in modules(data).values()]
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)  # two signals at once would be one
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Moonpool is up" in out
    assert "Draining" in err
    assert "Stopped." in err
    assert all(has_ended(pid) for pid in pids)


def test_serve_runs_targets_without_a_supervisor(data, tmp_path):
    command = [*PROGRAM, "serve", "--target=front,beta", "--data", str(data)]
    environment = {**os.environ, "MOONPOOL_LISTEN": "front=http://127.0.0.1:0"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        topology = data / "run" / "serve-front+beta.json"

        def introduced():
            told = json.loads(topology.read_text())["modules"] if topology.exists() else []
            return told if told and all(module["state"] == "ready" for module in told) else None

        told = {module["name"]: module for module in wait_until(introduced)}
        assert str(process.pid) in get(told["front"]["endpoint"], "/pid")
        taken = moonpool("serve", "--target=beta", data=data)
        assert taken.returncode == 1
        assert "another process serves there" in taken.stderr
    finally:
        process.terminate()
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    events = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert {(event["module"], event["event"]) for event in events} >= {
        ("front", "serving"),
        ("beta", "serving"),
    }


def test_serve_refuses_unknown_targets(data):
    refused = moonpool("serve", "--target=gatway", data=data)
    assert refused.returncode == 1
    assert "there is no module 'gatway'" in refused.stderr
    assert "front, beta" in refused.stderr
