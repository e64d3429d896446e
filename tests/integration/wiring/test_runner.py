"""A module's process as such: how it ends, whoever ends it."""

import json
import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, sys, time
from moonpool.contracts.manifest import Manifest
from moonpool.core.errors import StartupError
from moonpool.wiring import runner
from moonpool.wiring.registry import Module
from moonpool.wiring.settings import ModuleSettings

async def run(name, settings, sockets, stop, ready):
    behaviour = sys.argv[3]
    if behaviour == "refuse":
        raise StartupError("is newer than this code", where="x.db", hint="Upgrade.")
    if behaviour == "fall":
        raise ValueError("no such luck")
    ready()
    if behaviour == "stuck":
        time.sleep(60)
    await stop.wait()
    if behaviour == "linger":
        await asyncio.sleep(60)
    stop.under_way = lambda: 3
    if behaviour in ("streams", "unknown"):
        print('{"event": "streams"}', file=sys.stderr, flush=True)
        await stop.within(asyncio.sleep)

runner.GRACE = 0.1 if sys.argv[3] in ("stuck", "linger") else 20.0
settings = ModuleSettings(
    name="chat", instance="chat-0-1", endpoint="unix:x", data=".", topology="t", drain_timeout=0.1,
    replaced_drain_timeout=0.0 if sys.argv[3] == "unknown" else 60.0,
)
MANIFEST = Manifest(service="chat", summary="", nice=5)
module = Module(
    name="chat", entry="__main__:run", manifest="__main__:MANIFEST" if sys.argv[3] == "nice" else ""
)
sys.exit(runner.run_child(module, settings, [], int(sys.argv[1]), int(sys.argv[2])))
"""


class Child:
    def __init__(self, behaviour):
        lifeline, self.lifeline = os.pipe()
        self.status, status = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(lifeline), str(status), behaviour],
            pass_fds=(lifeline, status),
            stderr=subprocess.PIPE,
        )
        os.close(lifeline)
        os.close(status)
        self.lines = []

    def serving(self):
        """Wait until it serves."""
        for line in self.process.stderr:
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] == "serving":
                return self
        raise AssertionError(self.lines)

    def event(self):
        """The next."""
        return json.loads(self.process.stderr.readline())["event"]

    def end(self):
        """Its exit code; what it logged and what it said at the end are kept."""
        code = self.process.wait(20)
        self.lines += [json.loads(line) for line in self.process.stderr]
        self.said = os.read(self.status, 65536).decode()
        return code

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        os.close(self.status)


@pytest.fixture
def start():
    children = []

    def run(behaviour):
        children.append(Child(behaviour))
        return children[-1]

    yield run
    for child in children:
        child.close()


def test_a_signal_drains_it(start):
    child = start("well").serving()
    child.process.send_signal(signal.SIGTERM)
    assert child.end() == 0
    assert [line["event"] for line in child.lines] == ["serving", "ended"]
    os.close(child.lifeline)


def test_the_end_of_its_lifeline_drains_it(start):
    child = start("well").serving()
    os.close(child.lifeline)
    assert child.end() == 0
    assert child.said.startswith("\0" + "0\n")


def test_what_is_replaced_goes_on_until_its_lifeline_ends(start):
    child = start("streams").serving()
    os.write(child.lifeline, b"\n")
    assert child.event() == "streams"
    with pytest.raises(subprocess.TimeoutExpired):
        child.process.wait(0.5)
    os.write(child.lifeline, b"\n")
    os.close(child.lifeline)
    assert child.end() == 0
    assert child.said.startswith("\0" + "0\n\0" + "3\n")


def test_a_signal_cuts_short_what_is_replaced(start):
    child = start("streams").serving()
    os.write(child.lifeline, b"\n")
    assert child.event() == "streams"
    child.process.send_signal(signal.SIGTERM)
    assert child.end() == 0
    os.close(child.lifeline)


def test_to_a_supervisor_that_does_not_know_notes_none_are_sent(start):
    child = start("unknown").serving()
    os.close(child.lifeline)
    assert child.end() == 0
    assert child.said == ""


@pytest.mark.parametrize(("behaviour", "added"), [("well", 0), ("nice", 5)])
def test_background_work_gives_way_to_answers(start, behaviour, added):
    child = start(behaviour).serving()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, child.process.pid) == min(own + added, 19)
    os.close(child.lifeline)
    assert child.end() == 0


@pytest.mark.parametrize("behaviour", ["stuck", "linger"])
def test_the_kernel_ends_what_does_not_end(start, behaviour):
    child = start(behaviour).serving()
    os.close(child.lifeline)
    assert child.end() == -signal.SIGALRM


def test_what_cannot_start_says_so(start):
    child = start("refuse")
    assert child.end() == 78
    assert child.said.replace("\0" + "0\n", "") == "x.db: is newer than this code\n  → Upgrade."
    os.close(child.lifeline)


def test_a_fault_is_logged_with_its_trace(start):
    child = start("fall")
    assert child.end() == 1
    assert child.said.strip("\0" + "0\n") == ""
    assert child.lines[-1]["error"] == "ValueError: no such luck"
    assert "in run\n" in child.lines[-1]["exception"]
    os.close(child.lifeline)
